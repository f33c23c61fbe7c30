-- Tasks, steps and the record of every change.
--
-- Every table of a task leads with task_id, a UUIDv7: rows of one task lie together, and those of
-- one day, too. The row in tasker_tasks is the lock of all that belongs to the task: whoever
-- changes a step has locked it, in the order of task_id or skipping what is locked, so that no two
-- transactions can wait for each other. Rows of tasker_subtasks are locked after that
-- (tasker_count_subtasks).

CREATE TABLE tasker_templates (
    template_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    content_hash bytea       NOT NULL UNIQUE,
    namespace    text        NOT NULL,
    name         text        NOT NULL,
    version      text        NOT NULL,
    version_order bigint[]  NOT NULL,
    deadline_ms  bigint,
    steps        int         NOT NULL,
    roots        int         NOT NULL,
    -- Whether a step's trigger rule counts how its parents end.
    counts_ends  boolean     NOT NULL,
    -- Whether something may be left to do once a task of it has failed or was cancelled.
    has_aftermath boolean    NOT NULL,
    definition   text        NOT NULL,
    created_at   timestamptz NOT NULL
);

CREATE INDEX tasker_templates_name ON tasker_templates (namespace, name, version_order);

-- The definition's steps and edges as rows, so that creating and completing need not be told them.
CREATE TABLE tasker_template_steps (
    template_id   bigint   NOT NULL REFERENCES tasker_templates,
    position      int      NOT NULL,
    name          text     NOT NULL,
    queue         text     NOT NULL,
    attempt_limit bigint   NOT NULL,
    parents       int      NOT NULL,
    -- Among the steps without parents, its number from 1, by position.
    root          int,
    skippable     boolean  NOT NULL,
    level         int      NOT NULL,
    -- How many parents must end as the trigger rule asks; null for the rules that count nothing.
    awaited       int,
    PRIMARY KEY (template_id, position)
);

CREATE TABLE tasker_template_edges (
    template_id bigint NOT NULL REFERENCES tasker_templates,
    parent      int    NOT NULL,
    child       int    NOT NULL,
    -- The place of the parent among those that the child names.
    ordinal     int    NOT NULL,
    -- What a completion must know of the child.
    child_parents int  NOT NULL,
    child_queue   text NOT NULL,
    -- Whether the child's trigger rule counts these ends of the parent; null if it counts nothing.
    on_success    int,
    on_skip       int,
    on_failure    int,
    PRIMARY KEY (template_id, parent, child)
);

CREATE UNIQUE INDEX tasker_template_edges_child ON tasker_template_edges (template_id, child, ordinal)
    INCLUDE (parent);

CREATE TABLE tasker_tasks (
    task_id         uuid        PRIMARY KEY,
    template_id     bigint      NOT NULL,
    state           text        NOT NULL,
    total_steps     int         NOT NULL,
    done_steps      int         NOT NULL,
    open_steps      int         NOT NULL,
    failed_steps    int         NOT NULL,
    cancelled_steps int         NOT NULL,
    transitions     int         NOT NULL,
    created_at      timestamptz NOT NULL,
    finished_at     timestamptz,
    deadline_at     timestamptz,
    -- As its template's, at hand where the task is.
    counts_ends     boolean     NOT NULL,
    -- The task and step that started it; without a step it undoes that task. The ordinal is its place among
    -- the step's sub-tasks; null if another has taken its place. Held: not due until another one ends.
    parent_task     uuid,
    parent_position int,
    ordinal         int,
    held            boolean     NOT NULL DEFAULT false,
    -- Since when something is left to do of a task that has failed or was cancelled.
    aftermath_at    timestamptz
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);

-- Only unfinished tasks have a deadline, so finished ones cost the sweep nothing.
CREATE INDEX tasker_tasks_deadline ON tasker_tasks (deadline_at) WHERE deadline_at IS NOT NULL;

-- A list of one state, newest first; task_id grows with time. The states that hold most of the
-- history are left out, and with them the cost of an index entry per finished task.
CREATE INDEX tasker_tasks_attention ON tasker_tasks (state, task_id)
    WHERE state IN ('pending', 'in_progress', 'error');

CREATE INDEX tasker_tasks_parent ON tasker_tasks (parent_task, parent_position, ordinal)
    WHERE parent_task IS NOT NULL;
-- Those that are not final: the next one that is held, and those that nobody waits for any more.
CREATE INDEX tasker_tasks_open_subtasks ON tasker_tasks (parent_task, parent_position, held, ordinal)
    WHERE parent_task IS NOT NULL AND state IN ('pending', 'in_progress');
CREATE INDEX tasker_tasks_aftermath ON tasker_tasks (aftermath_at) WHERE aftermath_at IS NOT NULL;

-- What a step means to start, and what has become of it: counted with every end of a sub-task.
CREATE TABLE tasker_subtasks (
    task_id      uuid    NOT NULL,
    position     int     NOT NULL,
    planned      int     NOT NULL,
    concurrency  int     NOT NULL,
    max_failures int     NOT NULL,
    gather       text    NOT NULL,
    created      int     NOT NULL,
    open         int     NOT NULL,
    held         int     NOT NULL,
    failed       int     NOT NULL,
    -- Whether a sub-task or the step should be due, but somebody had its task locked: left to the next look.
    unsettled    boolean NOT NULL,
    PRIMARY KEY (task_id, position)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);

CREATE INDEX tasker_subtasks_unsettled ON tasker_subtasks (task_id, position) WHERE unsettled;

-- What a task was asked with: written once, and kept apart from the row that every commit rewrites.
CREATE TABLE tasker_requests (
    task_id         uuid        PRIMARY KEY,
    context         json        NOT NULL,
    initiator       text        NOT NULL,
    source_system   text        NOT NULL,
    reason          text        NOT NULL,
    tags            json        NOT NULL,
    bypass_steps    json        NOT NULL,
    requested_at    timestamptz NOT NULL,
    idempotency_key text,
    identity        text,
    priority        int         NOT NULL,
    start_at        timestamptz
);

CREATE UNIQUE INDEX tasker_requests_idempotency_key ON tasker_requests (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasker_requests_identity ON tasker_requests (identity, requested_at)
    WHERE identity IS NOT NULL;

CREATE TABLE tasker_steps (
    task_id            uuid   NOT NULL,
    position           int    NOT NULL,
    attempts           int    NOT NULL,
    attempt_limit      bigint NOT NULL,
    lost_attempts      int    NOT NULL,
    unfinished_parents int    NOT NULL,
    priority           int    NOT NULL,
    template_id        bigint NOT NULL,
    due_at             timestamptz,
    started_at         timestamptz,
    finished_at        timestamptz,
    worker             uuid,
    state              text   NOT NULL,
    queue              text   NOT NULL,
    name               text   NOT NULL,
    failure            text,
    result             json,
    -- How many more parents must end as the trigger rule asks; null for the rules that count nothing.
    awaited            int,
    -- Until when a step that waits for a time or a signal was given back; what it waits for; what came.
    waited_until       timestamptz,
    awaits             text,
    signal             json,
    -- How far the last attempt had come when it was last heard of.
    progress           json,
    PRIMARY KEY (task_id, position)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);

-- Where a step stands among those that are due: one level of priority is worth ten seconds of waiting,
-- so that nothing starves. Immutable, unlike timestamptz minus interval in general: an interval of
-- seconds knows no calendar.
CREATE FUNCTION tasker_rank(p_due_at timestamptz, p_priority int) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT p_due_at - make_interval(secs => 10 * p_priority)
$$;

-- The whole scheduler: a root's start, a retry, a lease's end are all "look at it at that time".
-- Partial, so finished history costs a claim nothing. Leases stand apart: most end by a
-- completion, and a claim need not walk over their remains.
CREATE INDEX tasker_steps_due ON tasker_steps (queue, template_id, due_at)
    WHERE due_at IS NOT NULL AND state <> 'in_progress';
CREATE INDEX tasker_steps_prioritised ON tasker_steps (queue, template_id, tasker_rank(due_at, priority))
    WHERE due_at IS NOT NULL AND state <> 'in_progress' AND priority <> 0;
CREATE INDEX tasker_steps_leased ON tasker_steps (queue, template_id, due_at)
    WHERE state = 'in_progress';

-- The first signal of each name that a task was sent, whether or not anybody waits for it.
CREATE TABLE tasker_signals (
    task_id uuid        NOT NULL,
    name    text        NOT NULL,
    payload json        NOT NULL,
    sent_by text        NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (task_id, name)
);

-- What code has noted about a task when a step of it was complete. The sequence is that of the transition.
CREATE TABLE tasker_annotations (
    task_id         uuid        NOT NULL,
    sequence        int         NOT NULL,
    ordinal         int         NOT NULL,
    position        int         NOT NULL,
    annotation_type text        NOT NULL,
    annotation      json        NOT NULL,
    at              timestamptz NOT NULL,
    PRIMARY KEY (task_id, sequence, ordinal)
);

CREATE TABLE tasker_transitions (
    task_id    uuid        NOT NULL,
    sequence   int         NOT NULL,
    position   int,
    at         timestamptz NOT NULL,
    from_state text,
    to_state   text        NOT NULL,
    attempt    int,
    worker     uuid,
    actor      text,
    reason     text,
    -- Microseconds.
    duration   bigint,
    failure    json,
    retry_at   timestamptz,
    -- What the handler logged during the attempt that ended.
    log        text,
    PRIMARY KEY (task_id, sequence)
);

-- Queues with a setting of their own; all others are unlimited.
CREATE TABLE tasker_queues (
    queue             text PRIMARY KEY,
    -- Attempts at the same time on all nodes; 0 pauses the queue.
    concurrency_limit int  NOT NULL
);

CREATE TABLE tasker_workers (
    worker_id  uuid        PRIMARY KEY,
    host       text        NOT NULL,
    pid        bigint      NOT NULL,
    handlers   json        NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL
);
