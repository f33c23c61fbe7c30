-- signal.deliver
UPDATE tasker_steps
SET signal = ?3, awaits = NULL, due_at = ?4
WHERE task_no = ?1 AND awaits = ?2 AND state = 'pending' AND due_at IS NOT NULL
