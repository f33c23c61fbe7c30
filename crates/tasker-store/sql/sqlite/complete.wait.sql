-- complete.wait
-- The attempt does not count. A signal that came early ends the wait at once; one that came before stays.
UPDATE tasker_steps
SET state = 'pending', attempts = attempts - 1, worker = NULL, waited_until = ?4, awaits = ?5,
    signal = coalesce((SELECT payload FROM tasker_signals WHERE task_no = ?7 AND name = ?5), signal),
    due_at = CASE WHEN EXISTS (SELECT * FROM tasker_signals WHERE task_no = ?7 AND name = ?5) THEN ?6 ELSE ?4 END
WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
RETURNING due_at
