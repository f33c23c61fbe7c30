-- queue.clear_limit
DELETE FROM tasker_queues WHERE queue = ?1
