-- figures.slowest_steps
SELECT task_id, position, step_name, namespace_name, task_name, version, (duration_seconds * 1000)::bigint,
       (total_seconds * 1000)::bigint, attempts, retryable, created_at, completed_at
FROM {schema}.get_slowest_steps_v01($2, $3, $4, $5, $6, coalesce($1, now()))
