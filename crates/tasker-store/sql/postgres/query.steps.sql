-- query.steps
SELECT s.position, s.name, s.state, s.attempts, s.attempt_limit, s.lost_attempts, s.unfinished_parents, s.due_at,
       s.worker, s.failure, s.result::text, s.started_at, s.finished_at, s.awaited, s.awaits,
       s.progress::text, {schema}.tasker_tally(u)
FROM {schema}.tasker_steps s
LEFT JOIN {schema}.tasker_subtasks u ON u.task_id = s.task_id AND u.position = s.position
WHERE s.task_id = $1
ORDER BY s.position
