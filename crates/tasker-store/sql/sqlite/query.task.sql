-- query.task
SELECT t.task_id, p.namespace, p.name, p.version, t.state, t.total_steps, t.done_steps,
       t.open_steps, t.failed_steps, t.cancelled_steps, t.created_at, t.finished_at,
       r.context, r.initiator, r.source_system, r.reason, r.tags, r.bypass_steps, r.requested_at,
       t.deadline_at, t.transitions, t.template_id, t.task_no, r.priority, r.start_at,
       t.parent_id, t.parent_position, t.ordinal
FROM tasker_tasks t
JOIN tasker_templates p USING (template_id)
JOIN tasker_requests r USING (task_no)
WHERE t.task_id = ?1
