-- operate.raise_limit
UPDATE tasker_steps SET attempt_limit = ?2 WHERE step_no = ?1
