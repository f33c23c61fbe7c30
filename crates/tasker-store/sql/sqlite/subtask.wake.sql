-- subtask.wake
-- The step that waits for its sub-tasks; ?4 is never.
UPDATE tasker_steps
SET due_at = ?3
WHERE task_no = ?1 AND position = ?2 AND state = 'pending' AND due_at = ?4 AND awaits IS NULL
