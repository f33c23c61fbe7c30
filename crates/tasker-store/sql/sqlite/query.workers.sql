-- query.workers
SELECT worker_id, host, pid, handlers, started_at, seen_at
FROM tasker_workers
WHERE seen_at >= ?1
ORDER BY started_at
