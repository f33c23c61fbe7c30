-- claim.give_up
UPDATE tasker_steps
SET state = 'error', lost_attempts = lost_attempts + 1, worker = NULL, due_at = NULL,
    failure = ?2, finished_at = ?3
WHERE step_no = ?1
