-- subtask.holds_lease
SELECT 1 FROM tasker_steps WHERE step_no = ?1 AND worker = ?2 AND attempts = ?3 AND state = 'in_progress'
