-- complete.hand_back
-- A planned shutdown: the attempt does not count.
UPDATE tasker_steps
SET state = 'pending', due_at = ?4, attempts = attempts - 1, worker = NULL, finished_at = ?4
WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
RETURNING started_at
