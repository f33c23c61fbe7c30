-- What the writing of workflows needs.

-- What a handler logged during an attempt, on the transition that ended it.
ALTER TABLE tasker_transitions ADD COLUMN log TEXT;

-- How many more parents must end as the step's trigger rule asks; NULL for the rules that count nothing.
ALTER TABLE tasker_steps ADD COLUMN awaited INTEGER;

-- Until when a step that waits for a time or a signal was given back; what it waits for; what came.
ALTER TABLE tasker_steps ADD COLUMN waited_until INTEGER;
ALTER TABLE tasker_steps ADD COLUMN awaits TEXT;
ALTER TABLE tasker_steps ADD COLUMN signal TEXT;

-- The first signal of each name that a task was sent, whether or not anybody waits for it.
CREATE TABLE tasker_signals (
    task_no INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    payload TEXT    NOT NULL,
    sent_by TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (task_no, name)
) STRICT, WITHOUT ROWID;

-- How far the last attempt had come when it was last heard of, as JSON.
ALTER TABLE tasker_steps ADD COLUMN progress TEXT;
