-- sheet.steps
SELECT position, state, attempts, attempt_limit, lost_attempts, unfinished_parents, due_at, failure,
       worker, finished_at, awaited, waited_until, awaits
FROM tasker_steps
WHERE task_no = ?1
ORDER BY position
