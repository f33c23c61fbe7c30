-- claim.running
-- Attempts on one queue, those of vanished workers apart.
SELECT count(*) FROM tasker_steps WHERE queue = ?1 AND due_at > ?2 AND state = 'in_progress'
