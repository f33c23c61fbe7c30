-- query.workers
SELECT w.worker_id, w.host, w.pid, w.handlers::text, w.started_at, w.seen_at, coalesce(h.attempts, 0)::int
FROM {schema}.tasker_workers w
LEFT JOIN (
    SELECT worker, count(*) AS attempts
    FROM {schema}.tasker_steps
    WHERE state = 'in_progress'
    GROUP BY worker) h ON h.worker = w.worker_id
WHERE w.seen_at >= $1
ORDER BY w.started_at, w.worker_id
