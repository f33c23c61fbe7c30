-- query.steps
SELECT position, name, state, attempts, attempt_limit, lost_attempts, unfinished_parents, due_at,
       worker, failure, result::text, started_at, finished_at, awaited, awaits,
       progress::text
FROM {schema}.tasker_steps
WHERE task_id = $1
ORDER BY position
