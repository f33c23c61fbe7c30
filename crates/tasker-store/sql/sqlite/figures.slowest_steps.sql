-- figures.slowest_steps
SELECT t.task_id, s.position, s.name, p.namespace, p.name, p.version, s.finished_at - s.started_at,
       s.finished_at - t.created_at, s.attempts, s.attempt_limit > 1, t.created_at, s.finished_at
FROM tasker_tasks t
JOIN tasker_steps s USING (task_no)
JOIN tasker_templates p ON p.template_id = t.template_id
WHERE t.created_at >= ?1
  AND s.state = 'complete' AND s.finished_at > s.started_at
  AND (?3 IS NULL OR p.namespace = ?3)
  AND (?4 IS NULL OR p.name = ?4)
  AND (?5 IS NULL OR p.version = ?5)
ORDER BY s.finished_at - s.started_at DESC, t.task_id, s.position
LIMIT ?2
