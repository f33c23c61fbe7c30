-- figures.slowest_tasks
SELECT t.task_id, p.namespace, p.name, p.version, t.state, t.finished_at - t.created_at, t.total_steps,
       t.done_steps, t.failed_steps, t.created_at, t.finished_at, r.initiator, r.source_system
FROM tasker_tasks t
JOIN tasker_templates p USING (template_id)
JOIN tasker_requests r USING (task_no)
WHERE t.created_at >= ?1
  AND t.finished_at IS NOT NULL AND t.state IN ('complete', 'error', 'resolved_manually')
  AND (?3 IS NULL OR p.namespace = ?3)
  AND (?4 IS NULL OR p.name = ?4)
  AND (?5 IS NULL OR p.version = ?5)
ORDER BY t.finished_at - t.created_at DESC, t.task_id
LIMIT ?2
