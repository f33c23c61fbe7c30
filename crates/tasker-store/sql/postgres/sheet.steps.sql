-- sheet.steps
SELECT position, state, attempts, attempt_limit, lost_attempts, unfinished_parents, due_at, failure,
       worker, finished_at, clock_timestamp(), awaited, waited_until, awaits,
       (SELECT u.task_id FROM {schema}.tasker_tasks u WHERE u.parent_task = $1 AND u.parent_position IS NULL
        LIMIT 1)
FROM {schema}.tasker_steps
WHERE task_id = $1
ORDER BY position
