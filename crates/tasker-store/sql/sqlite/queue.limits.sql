-- queue.limits
SELECT queue, concurrency_limit FROM tasker_queues ORDER BY queue
