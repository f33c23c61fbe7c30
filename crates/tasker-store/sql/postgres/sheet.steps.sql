-- sheet.steps
SELECT position, state, attempts, attempt_limit, lost_attempts, unfinished_parents, due_at, failure,
       worker, finished_at, clock_timestamp(), awaited, waited_until, awaits
FROM {schema}.tasker_steps
WHERE task_id = $1
ORDER BY position
