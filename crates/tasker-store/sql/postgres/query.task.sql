-- query.task
SELECT t.task_id, p.namespace, p.name, p.version, t.state, t.total_steps, t.done_steps,
       t.open_steps, t.failed_steps, t.cancelled_steps, t.created_at, t.finished_at,
       r.context::text, r.initiator, r.source_system, r.reason, r.tags::text, r.bypass_steps::text,
       r.requested_at, t.deadline_at, t.transitions, t.template_id, r.priority, r.start_at,
       t.parent_task, t.parent_position, t.ordinal, u.task_id, u.state
FROM {schema}.tasker_tasks t
JOIN {schema}.tasker_templates p USING (template_id)
JOIN {schema}.tasker_requests r USING (task_id)
LEFT JOIN {schema}.tasker_tasks u ON u.parent_task = t.task_id AND u.parent_position IS NULL
WHERE t.task_id = $1
