-- register_worker
-- Workers that have not been seen for a day are forgotten; their names stay in the transitions.
WITH forgotten AS (
    DELETE FROM {schema}.tasker_workers
    WHERE seen_at < coalesce($6, clock_timestamp()) - interval '24 hours' AND worker_id <> $1
)
INSERT INTO {schema}.tasker_workers (worker_id, host, pid, handlers, started_at, seen_at)
VALUES ($1, $2, $3, $4::text::json, $5, coalesce($6, clock_timestamp()))
ON CONFLICT (worker_id) DO UPDATE SET handlers = excluded.handlers, seen_at = excluded.seen_at
RETURNING seen_at
