-- subtask.replace
-- A sub-task that was cancelled, or that cannot be sent round again because it is undone, gives up its place.
UPDATE tasker_tasks
SET ordinal = NULL
WHERE task_id = ?1 AND parent_id = ?2 AND parent_position = ?3 AND ordinal = ?4 AND state IN ('error', 'cancelled')
