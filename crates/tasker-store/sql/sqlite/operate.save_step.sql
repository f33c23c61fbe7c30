-- operate.save_step
UPDATE tasker_steps
SET state = ?2, attempt_limit = ?3, lost_attempts = CASE WHEN ?4 THEN 0 ELSE lost_attempts END,
    due_at = ?5, failure = ?6, worker = NULL, finished_at = ?7, result = coalesce(?8, result)
WHERE step_no = ?1
