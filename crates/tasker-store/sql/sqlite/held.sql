-- held
-- One range of the partial index tasker_steps_due, which holds the leases, too.
SELECT step_no, task_no, position, attempts, attempt_limit
FROM tasker_steps
WHERE queue = ?1 AND template_id = ?2 AND due_at IS NOT NULL AND state = 'in_progress' AND worker = ?3
ORDER BY step_no
