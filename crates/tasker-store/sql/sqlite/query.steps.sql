-- query.steps
SELECT position, name, state, attempts, attempt_limit, lost_attempts, unfinished_parents, due_at,
       worker, failure, result, started_at, finished_at, awaited, awaits, progress
FROM tasker_steps
WHERE task_no = ?1
ORDER BY position
