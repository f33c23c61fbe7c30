-- sheet.task
-- The task's row is the lock of all that belongs to it.
SELECT template_id, state, transitions, ordinal IS NOT NULL
FROM {schema}.tasker_tasks
WHERE task_id = $1
FOR NO KEY UPDATE
