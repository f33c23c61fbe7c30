-- query.workers
SELECT worker_id, host, pid, handlers, started_at, seen_at,
       (SELECT count(*) FROM tasker_steps s WHERE s.due_at IS NOT NULL AND s.worker = w.worker_id)
FROM tasker_workers w
WHERE seen_at >= ?1
ORDER BY started_at
