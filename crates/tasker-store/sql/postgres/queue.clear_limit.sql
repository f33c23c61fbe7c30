-- queue.clear_limit
DELETE FROM {schema}.tasker_queues WHERE queue = $1
