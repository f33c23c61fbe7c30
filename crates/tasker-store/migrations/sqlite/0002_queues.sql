-- Priorities, delayed starts, and queues with a limit.

ALTER TABLE tasker_requests ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasker_requests ADD COLUMN start_at INTEGER;
ALTER TABLE tasker_steps ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;

-- Where a prioritised step stands among those that are due: one level is worth ten seconds of waiting.
-- Steps without a priority are found by tasker_steps_due alone.
CREATE INDEX tasker_steps_prioritised ON tasker_steps (queue, template_id, due_at - priority * 10000000)
    WHERE due_at IS NOT NULL AND priority <> 0;

-- Queues with a setting of their own; all others are unlimited. A limit is the number of attempts at the
-- same time; 0 pauses the queue.
CREATE TABLE tasker_queues (
    queue             TEXT PRIMARY KEY,
    concurrency_limit INTEGER NOT NULL
) STRICT;
