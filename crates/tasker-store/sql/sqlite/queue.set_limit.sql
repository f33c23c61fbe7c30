-- queue.set_limit
INSERT INTO tasker_queues (queue, concurrency_limit) VALUES (?1, ?2)
ON CONFLICT (queue) DO UPDATE SET concurrency_limit = excluded.concurrency_limit
