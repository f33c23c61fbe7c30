-- note_progress
UPDATE tasker_steps
SET progress = ?4
WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
