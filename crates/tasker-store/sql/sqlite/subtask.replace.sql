-- subtask.replace
-- A cancelled sub-task gives up its place.
UPDATE tasker_tasks
SET ordinal = NULL
WHERE task_id = ?1 AND parent_id = ?2 AND parent_position = ?3 AND ordinal = ?4 AND state = 'cancelled'
