-- Tasks, steps and the record of every change.
--
-- Times are microseconds since 1970 (UTC). Ids are the 16 bytes of a UUID. Hot rows stay small:
-- what a commit rewrites (tasks, steps) is kept apart from what is written once (requests).

CREATE TABLE tasker_templates (
    template_id  INTEGER PRIMARY KEY,
    content_hash BLOB    NOT NULL UNIQUE,
    namespace    TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    definition   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE tasker_tasks (
    task_no         INTEGER PRIMARY KEY,
    task_id         BLOB    NOT NULL UNIQUE,
    template_id     INTEGER NOT NULL REFERENCES tasker_templates,
    state           TEXT    NOT NULL,
    total_steps     INTEGER NOT NULL,
    done_steps      INTEGER NOT NULL,
    open_steps      INTEGER NOT NULL,
    failed_steps    INTEGER NOT NULL,
    cancelled_steps INTEGER NOT NULL,
    transitions     INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER,
    deadline_at     INTEGER
) STRICT;

-- Only unfinished tasks have a deadline, so finished ones cost the sweep nothing.
CREATE INDEX tasker_tasks_deadline ON tasker_tasks (deadline_at) WHERE deadline_at IS NOT NULL;

-- A list of one state, newest first; task_no grows with time. The states that hold most of the
-- history are left out, and with them the cost of an index entry per finished task.
CREATE INDEX tasker_tasks_attention ON tasker_tasks (state, task_no) WHERE state IN ('pending', 'in_progress', 'error');

CREATE TABLE tasker_requests (
    task_no         INTEGER PRIMARY KEY,
    context         TEXT    NOT NULL,
    initiator       TEXT    NOT NULL,
    source_system   TEXT    NOT NULL,
    reason          TEXT    NOT NULL,
    tags            TEXT    NOT NULL,
    bypass_steps    TEXT    NOT NULL,
    requested_at    INTEGER NOT NULL,
    idempotency_key TEXT,
    identity        TEXT
) STRICT;

CREATE UNIQUE INDEX tasker_requests_idempotency_key ON tasker_requests (idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasker_requests_identity ON tasker_requests (identity, requested_at) WHERE identity IS NOT NULL;

CREATE TABLE tasker_steps (
    step_no            INTEGER PRIMARY KEY,
    task_no            INTEGER NOT NULL,
    position           INTEGER NOT NULL,
    name               TEXT    NOT NULL,
    state              TEXT    NOT NULL,
    attempts           INTEGER NOT NULL,
    attempt_limit      INTEGER NOT NULL,
    lost_attempts      INTEGER NOT NULL,
    unfinished_parents INTEGER NOT NULL,
    due_at             INTEGER,
    queue              TEXT    NOT NULL,
    template_id        INTEGER NOT NULL,
    worker             BLOB,
    failure            TEXT,
    started_at         INTEGER,
    finished_at        INTEGER,
    result             TEXT,
    UNIQUE (task_no, position)
) STRICT;

-- The whole scheduler: a root's start, a retry, a lease's end are all "look at it at that time".
-- Partial, so finished history costs a claim nothing.
CREATE INDEX tasker_steps_due ON tasker_steps (queue, template_id, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE tasker_transitions (
    task_no    INTEGER NOT NULL,
    sequence   INTEGER NOT NULL,
    position   INTEGER,
    from_state TEXT,
    to_state   TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    attempt    INTEGER,
    worker     BLOB,
    actor      TEXT,
    reason     TEXT,
    duration   INTEGER,
    failure    TEXT,
    retry_at   INTEGER,
    PRIMARY KEY (task_no, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasker_workers (
    worker_id  BLOB PRIMARY KEY,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    handlers   TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) STRICT;
