-- subtask.belongs_to
UPDATE tasker_tasks SET parent_id = ?2, parent_position = ?3, ordinal = ?4, held = ?5 WHERE task_no = ?1
