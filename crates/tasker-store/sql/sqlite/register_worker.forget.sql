-- register_worker.forget
-- Workers that have not been seen for long; their names stay in the transitions.
DELETE FROM tasker_workers WHERE seen_at < ?1
