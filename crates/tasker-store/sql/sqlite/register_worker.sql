-- register_worker
INSERT INTO tasker_workers (worker_id, host, pid, handlers, started_at, seen_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (worker_id) DO UPDATE SET handlers = excluded.handlers, seen_at = excluded.seen_at
