-- query.steps
SELECT s.position, s.name, s.state, s.attempts, s.attempt_limit, s.lost_attempts, s.unfinished_parents, s.due_at,
       s.worker, s.failure, s.result, s.started_at, s.finished_at, s.awaited, s.awaits, s.progress,
       c.planned, c.concurrency, c.max_failures, c.gather, c.created, c.open, c.held, c.failed
FROM tasker_steps s
LEFT JOIN tasker_subtasks c ON c.task_no = s.task_no AND c.position = s.position
WHERE s.task_no = ?1
ORDER BY s.position
