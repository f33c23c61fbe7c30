-- claim.prioritised
-- As claim.due, in the order of due_at - priority * 10 seconds.
SELECT step_no, task_no, position, state, attempts, attempt_limit, lost_attempts,
       due_at - priority * 10000000, worker
FROM tasker_steps INDEXED BY tasker_steps_prioritised
WHERE queue = ?1 AND template_id = ?2 AND due_at <= ?3 AND due_at IS NOT NULL AND priority <> 0
ORDER BY due_at - priority * 10000000
LIMIT ?4
