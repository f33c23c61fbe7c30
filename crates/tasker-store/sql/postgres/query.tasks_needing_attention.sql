-- query.tasks_needing_attention
-- As query.tasks, for the states that the partial index tasker_tasks_attention covers.
SELECT t.task_id, p.namespace, p.name, p.version, t.state, t.total_steps, t.done_steps,
       t.open_steps, t.failed_steps, t.cancelled_steps, t.created_at, t.finished_at
FROM {schema}.tasker_tasks t
JOIN {schema}.tasker_templates p USING (template_id)
WHERE t.task_id < $1
  AND t.state = $2 AND t.state IN ('pending', 'in_progress', 'error')
  AND ($3::text IS NULL OR p.namespace = $3)
  AND ($4::text IS NULL OR p.name = $4)
  AND ($6 OR t.parent_task IS NULL)
ORDER BY t.task_id DESC
LIMIT $5
