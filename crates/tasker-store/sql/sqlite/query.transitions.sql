-- query.transitions
SELECT sequence, position, from_state, to_state, at, attempt, worker, actor, reason, duration,
       failure, retry_at, log
FROM tasker_transitions
WHERE task_no = ?1
ORDER BY sequence
