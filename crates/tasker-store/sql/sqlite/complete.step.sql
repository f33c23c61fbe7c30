-- complete.step
-- Only the attempt that holds the lease: everybody else changes nothing.
UPDATE steps
SET state = ?4, due_at = ?5, failure = ?6, result = ?7, worker = NULL, finished_at = ?8
WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
RETURNING started_at
