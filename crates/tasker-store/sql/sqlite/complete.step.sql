-- complete.step
-- ?9: the worker believes that no attempt is left; the limit may have been raised meanwhile.
-- Only the attempt that holds the lease: everybody else changes nothing.
UPDATE tasker_steps
SET state = ?4, due_at = CASE WHEN ?9 AND attempts < attempt_limit THEN ?8 ELSE ?5 END,
    failure = ?6, result = ?7, worker = NULL, finished_at = ?8
WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
RETURNING started_at, due_at
