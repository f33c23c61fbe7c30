-- figures.slowest_tasks
SELECT task_id, namespace_name, task_name, version, status, (duration_seconds * 1000)::bigint, step_count::int,
       completed_steps::int, error_steps::int, created_at, completed_at, initiator, source_system
FROM {schema}.get_slowest_tasks_v01($2, $3, $4, $5, $6, coalesce($1, now()))
