-- query.workers
SELECT worker_id, host, pid, handlers::text, started_at, seen_at
FROM {schema}.tasker_workers
WHERE seen_at >= $1
ORDER BY started_at, worker_id
