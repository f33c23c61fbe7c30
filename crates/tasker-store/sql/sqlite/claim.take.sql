-- claim.take
UPDATE tasker_steps
SET state = 'in_progress', attempts = attempts + 1, lost_attempts = ?2, worker = ?3, due_at = ?4,
    started_at = ?5, finished_at = NULL, awaits = NULL, progress = NULL
WHERE step_no = ?1
