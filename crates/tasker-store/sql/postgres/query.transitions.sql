-- query.transitions
SELECT sequence, position, from_state, to_state, at, attempt, worker, actor, reason, duration,
       failure::text, retry_at, log
FROM {schema}.tasker_transitions
WHERE task_id = $1
ORDER BY sequence
