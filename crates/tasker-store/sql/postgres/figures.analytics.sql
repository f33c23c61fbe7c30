-- figures.analytics
SELECT active_tasks_count, total_namespaces_count, unique_task_types_count,
       system_health_score::double precision, task_throughput, completion_count, error_count,
       completion_rate::double precision, error_rate::double precision,
       (avg_task_duration * 1000)::bigint, (avg_step_duration * 1000)::bigint, step_throughput,
       analysis_period_start, calculated_at
FROM {schema}.get_analytics_metrics_v01($2, coalesce($1, now()))
