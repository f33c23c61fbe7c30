-- operate.steps
SELECT step_no, position, state, attempts, attempt_limit, unfinished_parents, due_at, failure, worker
FROM tasker_steps
WHERE task_no = ?1
ORDER BY position
