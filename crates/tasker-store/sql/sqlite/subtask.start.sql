-- subtask.start
-- ?3 is never.
UPDATE tasker_steps SET due_at = ?2 WHERE task_no = ?1 AND state = 'pending' AND due_at = ?3
