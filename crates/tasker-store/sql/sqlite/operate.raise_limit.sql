-- operate.raise_limit
UPDATE steps SET attempt_limit = ?2 WHERE step_no = ?1
