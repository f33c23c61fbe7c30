-- Tasks that tasks start: for a step, for an item of a list, or to undo what was done.

-- The task and step that started it; without a step it undoes that task. The ordinal is its place among the
-- step's sub-tasks; NULL if another has taken its place. Held: not due until another one ends.
ALTER TABLE tasker_tasks ADD COLUMN parent_id BLOB;
ALTER TABLE tasker_tasks ADD COLUMN parent_position INTEGER;
ALTER TABLE tasker_tasks ADD COLUMN ordinal INTEGER;
ALTER TABLE tasker_tasks ADD COLUMN held INTEGER NOT NULL DEFAULT 0;

-- Since when something is left to do of a task that has failed or was cancelled.
ALTER TABLE tasker_tasks ADD COLUMN aftermath_at INTEGER;

CREATE INDEX tasker_tasks_parent ON tasker_tasks (parent_id, parent_position, ordinal) WHERE parent_id IS NOT NULL;
CREATE INDEX tasker_tasks_held ON tasker_tasks (parent_id, parent_position, ordinal) WHERE held = 1;
CREATE INDEX tasker_tasks_aftermath ON tasker_tasks (aftermath_at) WHERE aftermath_at IS NOT NULL;

-- What a step means to start, and what has become of it: counted with every end of a sub-task.
CREATE TABLE tasker_subtasks (
    task_no      INTEGER NOT NULL,
    position     INTEGER NOT NULL,
    planned      INTEGER NOT NULL,
    concurrency  INTEGER NOT NULL,
    max_failures INTEGER NOT NULL,
    gather       TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    open         INTEGER NOT NULL,
    held         INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    PRIMARY KEY (task_no, position)
) STRICT, WITHOUT ROWID;
