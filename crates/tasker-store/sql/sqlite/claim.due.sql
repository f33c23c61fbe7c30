-- claim.due
-- One range of the partial index tasker_steps_due, oldest first.
SELECT step_no, task_no, position, state, attempts, attempt_limit, lost_attempts, due_at, worker
FROM tasker_steps
WHERE queue = ?1 AND template_id = ?2 AND due_at <= ?3 AND priority = 0
ORDER BY due_at
LIMIT ?4
