-- The verbs of the engine, each one call and thereby one transaction and one round trip.
--
-- Functions, so that their plans are kept by the server and no session state is needed: a call is
-- one unnamed statement that any connection of a pooler may run. The settings make the plans
-- independent of statistics: every look at a large table is by index, whatever the planner believes
-- to know about tables that grow by the minute. Statements are kept simple, one row or one index range
-- each: to set up a statement of many parts costs the server more than to run several of few
-- (docs/PERFORMANCE.md).
--
-- Conventions: p_ are parameters, v_ variables. p_now is the time given by a test's clock; null
-- means the clock of this database, which is what decides everywhere else. It is read after the
-- task is locked. Each verb goes through its tasks one by one: lock the row, move steps and append to
-- the record, write the row. Loops over arrays that are sorted by task end with a row of nulls, which
-- closes the last task.

-- What a verb answers: one row of kind summary, and one per claimed step and finished task. Of a finished
-- task, position says that it is a sub-task.
CREATE TYPE tasker_answer AS (
    kind          text,
    task_id       uuid,
    position      int,
    attempt       int,
    attempt_limit bigint,
    template_id   bigint,
    word          text,
    context       text,
    results       text[],
    numbers       int[],
    at            timestamptz,
    next_due      timestamptz,
    left_due      boolean,
    states        text[],
    signal        text,
    subtasks      text
);

-- When a step is due that waits for nothing but a signal or its sub-tasks (NEVER in wait.rs).
CREATE FUNCTION tasker_never() RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(253370764800)
$$;

-- The sub-tasks of a step as subtask.rs reads them.
CREATE FUNCTION tasker_tally(c tasker_subtasks) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN c.task_id IS NOT NULL THEN json_build_object(
        'count', c.planned, 'concurrency', c.concurrency, 'max_failures', c.max_failures, 'gather', c.gather,
        'created', c.created, 'open', c.open, 'held', c.held, 'failed', c.failed)::text END
$$;

-- Whether a step that waits for its sub-tasks is due.
CREATE FUNCTION tasker_is_decided(c tasker_subtasks) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT c.open = 0 OR c.failed > c.max_failures
$$;

-- What the handlers of claimed steps need: the task's context and the parents' results, in the order
-- in which the step names its parents. p_wanted says of which steps.
CREATE FUNCTION tasker_inputs(p_tasks uuid[], p_positions int[], p_wanted boolean[])
RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT 'claimed', c.task_id, c.position, s.attempts, s.attempt_limit, s.template_id, NULL::text,
           r.context::text, p.results, NULL::int[], s.waited_until, NULL::timestamptz, NULL::boolean, p.states,
           s.signal::text, tasker_tally(u)
    FROM unnest(p_tasks, p_positions, p_wanted) WITH ORDINALITY AS c (task_id, position, wanted, ordinal)
    JOIN tasker_steps s ON s.task_id = c.task_id AND s.position = c.position
    JOIN tasker_requests r ON r.task_id = c.task_id
    LEFT JOIN tasker_subtasks u ON u.task_id = c.task_id AND u.position = c.position
    CROSS JOIN LATERAL (
        SELECT array_agg(p.result::text ORDER BY e.ordinal) AS results,
               array_agg(p.state ORDER BY e.ordinal) AS states
        FROM tasker_template_edges e
        JOIN tasker_steps p ON p.task_id = c.task_id AND p.position = e.parent
        WHERE e.template_id = s.template_id AND e.child = c.position) p
    WHERE c.wanted
    ORDER BY c.ordinal;
END $$;

-- Tells the children whose trigger rules count ends how parents have ended, and gives how many of them
-- became due: none if p_ripen is false. p_skipped is part of p_done. The caller holds the task's lock and
-- counts the children as open.
CREATE FUNCTION tasker_count_ends(
    p_task tasker_tasks, p_done int[], p_skipped int[], p_failed int[], p_now timestamptz, p_ripen boolean)
RETURNS int
LANGUAGE plpgsql AS $$
DECLARE
    v_due int := 0;
    e record;
BEGIN
    FOR e IN
        SELECT g.child,
               count(*) FILTER (WHERE g.parent = ANY (p_done))::int AS done,
               sum(CASE
                   WHEN g.parent = ANY (p_failed) THEN g.on_failure
                   WHEN g.parent = ANY (p_skipped) THEN g.on_skip
                   ELSE g.on_success
               END)::int AS counted
        FROM tasker_template_edges g
        WHERE g.template_id = p_task.template_id AND g.parent = ANY (p_done || p_failed)
          AND g.on_success IS NOT NULL
        GROUP BY g.child
        ORDER BY g.child
    LOOP
        UPDATE tasker_steps
        SET unfinished_parents = unfinished_parents - e.done, awaited = awaited - e.counted
        WHERE task_id = p_task.task_id AND position = e.child;
        IF p_ripen THEN
            UPDATE tasker_steps
            SET due_at = p_now
            WHERE task_id = p_task.task_id AND position = e.child AND state = 'pending' AND due_at IS NULL
              AND (unfinished_parents = 0 OR awaited <= 0);
            v_due := v_due + FOUND::int;
        END IF;
    END LOOP;
    RETURN v_due;
END $$;

-- Writes a task's row after its steps have moved; finishes it if nothing of it is open any more, and
-- says so. The rule is that of rollup.rs.
CREATE FUNCTION tasker_close(p_task tasker_tasks, p_now timestamptz) RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
DECLARE
    v_from text := p_task.state;
BEGIN
    IF p_task.open_steps = 0 AND p_task.state IN ('pending', 'in_progress') THEN
        p_task.state := CASE
            WHEN p_task.done_steps = p_task.total_steps THEN 'complete'
            WHEN p_task.failed_steps > 0 THEN 'error'
            ELSE 'cancelled'
        END;
        p_task.transitions := p_task.transitions + 1;
        INSERT INTO tasker_transitions (task_id, sequence, from_state, to_state, at)
        VALUES (p_task.task_id, p_task.transitions, v_from, p_task.state, p_now);
        p_task.finished_at := p_now;
        p_task.deadline_at := NULL;
        IF p_task.state <> 'complete' THEN
            SELECT CASE WHEN has_aftermath THEN p_now ELSE p_task.aftermath_at END INTO p_task.aftermath_at
            FROM tasker_templates
            WHERE template_id = p_task.template_id;
        END IF;
        RETURN NEXT ROW('finished', p_task.task_id, p_task.parent_position, NULL, NULL, NULL, p_task.state, NULL,
                        NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::tasker_answer;
    END IF;
    UPDATE tasker_tasks
    SET state = p_task.state, done_steps = p_task.done_steps, open_steps = p_task.open_steps,
        failed_steps = p_task.failed_steps, transitions = p_task.transitions,
        finished_at = p_task.finished_at, deadline_at = p_task.deadline_at,
        aftermath_at = p_task.aftermath_at
    WHERE task_id = p_task.task_id;
END $$;

-- Counts what became of sub-tasks for the steps that started them, starts others that are held, and wakes
-- steps that need not wait any longer. Gives whether something was left due.
--
-- p_tasks are sub-tasks that have moved, p_from from which states (null: they are new); p_parents and
-- p_positions are steps that begin to wait for theirs.
--
-- Whoever counts comes to it last: it has locked all its tasks, and goes on to commit. So the order is that of
-- 0001_tables.sql: tasks by their ids, then tallies by theirs, and with a tally locked nobody waits for anything
-- but a later tally. That the tally changes the steps of other tasks, whose rows are their locks, is what
-- tasker_settle is for.
CREATE FUNCTION tasker_count_subtasks(
    p_now timestamptz, p_tasks uuid[], p_from text[], p_parents uuid[], p_positions int[])
RETURNS boolean
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_tally tasker_subtasks;
    v_settled record;
    v_left_due boolean := false;
    c record;
BEGIN
    FOR c IN
        SELECT m.parent, m.position, sum(m.created)::int AS created, sum(m.is_open - m.was_open)::int AS open,
               sum(CASE WHEN m.held THEN m.is_open - 1 + m.created ELSE 0 END)::int AS held,
               sum(m.is_failed - m.was_failed)::int AS failed
        FROM (
            SELECT t.parent_task AS parent, t.parent_position AS position, t.held,
                   (f.state IS NULL)::int AS created,
                   coalesce(f.state IN ('pending', 'in_progress'), false)::int AS was_open,
                   coalesce(f.state IN ('error', 'cancelled'), false)::int AS was_failed,
                   (t.state IN ('pending', 'in_progress'))::int AS is_open,
                   (t.state IN ('error', 'cancelled'))::int AS is_failed
            FROM unnest(p_tasks, p_from) AS f (task_id, state)
            JOIN tasker_tasks t ON t.task_id = f.task_id
            WHERE t.ordinal IS NOT NULL
            UNION ALL
            SELECT w.parent, w.position, false, 0, 0, 0, 0, 0
            FROM unnest(p_parents, p_positions) AS w (parent, position)
        ) m
        GROUP BY m.parent, m.position
        ORDER BY m.parent, m.position
    LOOP
        -- Nothing of a task that was deleted is left to be counted.
        UPDATE tasker_subtasks
        SET created = created + c.created, open = open + c.open, held = held + c.held, failed = failed + c.failed
        WHERE task_id = c.parent AND position = c.position
        RETURNING * INTO v_tally;
        CONTINUE WHEN NOT FOUND;
        IF c.held < 0 THEN
            UPDATE tasker_tasks
            SET held = false
            WHERE task_id = ANY (p_tasks) AND parent_task = c.parent AND parent_position = c.position
              AND held AND state NOT IN ('pending', 'in_progress');
        END IF;
        v_settled := tasker_settle(p_now, v_tally);
        v_left_due := v_left_due OR v_settled.made_due OR v_settled.unsettled;
    END LOOP;
    RETURN v_left_due;
END $$;

-- Starts sub-tasks that are held while there is room, and wakes the step that waits for them if that is decided.
-- The caller has locked the tally.
--
-- Their tasks are locked only if nobody else has: a wait here would be one in the wrong order. What was locked
-- is left to a look (tasker_settle_left). A step that is about to wait has not yet been counted: it finds the tally
-- as this leaves it.
CREATE FUNCTION tasker_settle(
    p_now timestamptz, p_tally tasker_subtasks, OUT made_due boolean, OUT unsettled boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_failed boolean := p_tally.failed > p_tally.max_failures;
    v_room int := CASE
        WHEN v_failed THEN 0
        ELSE least(p_tally.concurrency - p_tally.open + p_tally.held, p_tally.held)
    END;
    v_released uuid[];
    v_count int := 0;
BEGIN
    made_due := false;
    unsettled := false;
    IF v_room > 0 THEN
        SELECT array_agg(h.task_id) INTO v_released
        FROM (SELECT t.task_id
              FROM tasker_tasks t
              WHERE t.parent_task = p_tally.task_id AND t.parent_position = p_tally.position AND t.held
                AND t.state IN ('pending', 'in_progress')
              ORDER BY t.ordinal
              LIMIT v_room
              FOR NO KEY UPDATE SKIP LOCKED) h;
        v_count := coalesce(cardinality(v_released), 0);
        UPDATE tasker_tasks SET held = false WHERE task_id = ANY (v_released);
        UPDATE tasker_steps
        SET due_at = v_now
        WHERE task_id = ANY (v_released) AND state = 'pending' AND due_at = tasker_never();
        made_due := v_count > 0;
        unsettled := v_count < v_room;
    END IF;
    IF tasker_is_decided(p_tally)
       AND EXISTS (SELECT FROM tasker_steps
                   WHERE task_id = p_tally.task_id AND position = p_tally.position AND state = 'pending'
                     AND due_at = tasker_never() AND awaits IS NULL) THEN
        PERFORM 1 FROM tasker_tasks WHERE task_id = p_tally.task_id FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            UPDATE tasker_steps
            SET due_at = v_now
            WHERE task_id = p_tally.task_id AND position = p_tally.position AND state = 'pending'
              AND due_at = tasker_never() AND awaits IS NULL;
            made_due := true;
        ELSE
            unsettled := true;
        END IF;
    END IF;
    IF v_count > 0 OR unsettled OR p_tally.unsettled THEN
        UPDATE tasker_subtasks
        SET held = p_tally.held - v_count, unsettled = tasker_settle.unsettled
        WHERE task_id = p_tally.task_id AND position = p_tally.position;
    END IF;
END $$;

-- Settles what others had to leave, as far as their tasks are free by now. Part of every look, after what the look
-- has counted itself: a tally that somebody else has locked is settled by them.
CREATE FUNCTION tasker_settle_left(p_now timestamptz, OUT made_due boolean, OUT unsettled boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_tally tasker_subtasks;
    v_settled record;
BEGIN
    made_due := false;
    unsettled := false;
    FOR v_tally IN
        SELECT * FROM tasker_subtasks u WHERE u.unsettled ORDER BY u.task_id, u.position LIMIT 100
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        v_settled := tasker_settle(p_now, v_tally);
        made_due := made_due OR v_settled.made_due;
        unsettled := unsettled OR v_settled.unsettled;
    END LOOP;
END $$;

-- Notes that a step has failed for good and left sub-tasks open; gives since when something is left to do, or
-- null. The caller has locked its task.
CREATE FUNCTION tasker_abandon(p_task uuid, p_position int, p_now timestamptz) RETURNS timestamptz
LANGUAGE sql AS $$
    UPDATE tasker_tasks
    SET aftermath_at = p_now
    WHERE task_id = p_task
      AND EXISTS (SELECT FROM tasker_subtasks WHERE task_id = p_task AND position = p_position AND open > 0)
    RETURNING aftermath_at
$$;

-- Takes steps that are due, oldest first, of tasks that nobody else has locked.
--
-- What is due is found by the index and its tasks are locked at once; the rows are read again under
-- the lock, since they may have changed in between. p_due_after and p_leased_after say up to where
-- nothing was left by an earlier look: the remains of steps that were taken since stand there until
-- they are vacuumed, and a look need not walk over them. p_waits: for another node's look. The last row
-- answered is a summary: attempt is how many were taken, next_due up to where nothing was left; its word is
-- busy if another node was looking.
CREATE FUNCTION tasker_take_due(
    p_now timestamptz, p_worker uuid, p_lease interval, p_slots int, p_queues text[],
    p_templates bigint[], p_due_after timestamptz, p_leased_after timestamptz, p_waits boolean)
RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
DECLARE
    v_look bigint := hashtextextended(current_schema() || array_to_string(p_queues, ' '), 0);
    v_tasks uuid[];
    v_positions int[];
    v_ranks timestamptz[];
    v_task tasker_tasks;
    v_step tasker_steps;
    v_failure text;
    v_lost int;
    v_ripe int;
    v_taken int := 0;
    v_slots int := p_slots;
    v_left_due boolean;
    v_reached timestamptz;
    v_now timestamptz;
    v_at timestamptz;
    v_wanted boolean[];
    v_found record;
    v_limited text[];
    v_room int[];
    v_due_after timestamptz := coalesce(p_due_after, '-infinity');
    v_leased_after timestamptz := coalesce(p_leased_after, '-infinity');
BEGIN
    -- Among nodes that look for the same, one looks at a time: another would only walk over what the first
    -- has locked, a look at the task of each step included. With four nodes that was a quarter of all work.
    -- Whoever records the end of something does not wait for a look: there will be another.
    IF p_waits THEN
        PERFORM pg_advisory_xact_lock(v_look);
    ELSIF NOT pg_try_advisory_xact_lock(v_look) THEN
        RETURN NEXT ROW('summary', NULL, NULL, 0, NULL, NULL, 'busy', NULL, NULL, NULL, NULL, NULL,
                        false, NULL, NULL, NULL)::tasker_answer;
        RETURN;
    END IF;
    v_now := coalesce(p_now, clock_timestamp());
    -- The row of a limited queue is the lock of its count: one look at a time, and none waits for it
    -- while it holds something that another needs first.
    PERFORM 1 FROM tasker_queues WHERE queue = ANY (p_queues) ORDER BY queue FOR UPDATE;
    IF FOUND THEN
        SELECT array_agg(q.queue), array_agg(greatest(0, q.concurrency_limit - (
            SELECT count(*)::int
            FROM tasker_steps s
            WHERE s.queue = q.queue AND s.state = 'in_progress' AND s.due_at > v_now)))
        INTO v_limited, v_room
        FROM tasker_queues q
        WHERE q.queue = ANY (p_queues);
    END IF;
    LOOP
        SELECT array_agg(f.task_id ORDER BY f.rank, f.task_id, f.position),
               array_agg(f.position ORDER BY f.rank, f.task_id, f.position),
               array_agg(f.rank ORDER BY f.rank, f.task_id, f.position)
        INTO v_tasks, v_positions, v_ranks
        FROM (
            SELECT *, row_number() OVER (PARTITION BY queue ORDER BY rank, task_id, position) AS in_queue
            FROM (
                SELECT r.queue, d.*
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, s.due_at AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at > v_due_after AND s.due_at <= v_now AND s.state <> 'in_progress'
                      AND s.priority = 0
                    ORDER BY s.due_at
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
                UNION ALL
                SELECT r.queue, d.*
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, tasker_rank(s.due_at, s.priority) AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at <= v_now AND s.due_at IS NOT NULL AND s.state <> 'in_progress'
                      AND s.priority <> 0
                    ORDER BY tasker_rank(s.due_at, s.priority)
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
                UNION ALL
                SELECT r.queue, d.*
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, s.due_at AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at > v_leased_after AND s.due_at <= v_now AND s.state = 'in_progress'
                    ORDER BY s.due_at
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
            ) found
            ORDER BY rank, task_id, position
        ) f
        WHERE v_limited IS NULL OR f.in_queue <= coalesce(v_room[array_position(v_limited, f.queue)], v_slots);
        -- More than there are slots for: what is left over goes to the next look.
        v_left_due := coalesce(cardinality(v_tasks), 0) >= v_slots;
        v_reached := CASE WHEN v_left_due THEN v_ranks[v_slots] ELSE v_now END;
        v_tasks := v_tasks[1:v_slots];
        v_positions := v_positions[1:v_slots];
        EXIT WHEN v_tasks IS NULL;
        v_lost := 0;
        v_wanted := array_fill(false, ARRAY[cardinality(v_tasks)]);
        FOR v_found IN
            SELECT p.*
            FROM (SELECT * FROM unnest(v_tasks, v_positions) WITH ORDINALITY AS p (task_id, position, ordinal)
                  ORDER BY task_id, ordinal) p
            UNION ALL
            SELECT NULL, NULL, NULL
        LOOP
            IF v_found.task_id IS DISTINCT FROM v_task.task_id THEN
                IF v_task.task_id IS NOT NULL THEN
                    RETURN QUERY SELECT * FROM tasker_close(v_task, v_at);
                END IF;
                EXIT WHEN v_found.task_id IS NULL;
                SELECT * INTO v_task FROM tasker_tasks WHERE task_id = v_found.task_id;
                v_at := coalesce(p_now, clock_timestamp());
            END IF;
            SELECT * INTO v_step FROM tasker_steps WHERE task_id = v_found.task_id AND position = v_found.position;
            -- Somebody may have taken it between the look and the lock.
            CONTINUE WHEN v_step.due_at IS NULL OR v_step.due_at > v_at;
            -- The rules of a lost worker (lease.rs): after the third, or without an attempt left, the
            -- step fails instead of running again.
            IF v_step.state = 'in_progress'
               AND (v_step.lost_attempts + 1 >= 3 OR v_step.attempts >= v_step.attempt_limit) THEN
                v_lost := v_lost + 1;
                UPDATE tasker_steps
                SET state = 'error', lost_attempts = lost_attempts + 1, worker = NULL, due_at = NULL,
                    failure = CASE WHEN lost_attempts + 1 >= 3 THEN 'quarantined' ELSE 'lost' END,
                    finished_at = v_at
                WHERE task_id = v_found.task_id AND position = v_found.position
                RETURNING failure INTO v_failure;
                v_task.transitions := v_task.transitions + 1;
                INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                                worker, reason, failure)
                VALUES (v_found.task_id, v_task.transitions, v_found.position, 'in_progress', 'error', v_at,
                        v_step.attempts, v_step.worker, 'lease_lost',
                        json_build_object('kind', v_failure, 'message', CASE v_failure
                            WHEN 'quarantined' THEN '3 workers vanished while they ran this step; '
                                || 'retry it once the cause is known'
                            ELSE format('the worker vanished during attempt %s of %s', v_step.attempts,
                                        v_step.attempt_limit)
                        END));
                v_task.open_steps := v_task.open_steps - 1;
                v_task.failed_steps := v_task.failed_steps + 1;
                v_task.aftermath_at := coalesce(tasker_abandon(v_found.task_id, v_found.position, v_at),
                                                v_task.aftermath_at);
                IF v_task.counts_ends THEN
                    v_ripe := tasker_count_ends(v_task, '{}', '{}', ARRAY[v_found.position], v_at, true);
                    v_task.open_steps := v_task.open_steps + v_ripe;
                    v_left_due := v_left_due OR v_ripe > 0;
                END IF;
                CONTINUE;
            END IF;
            UPDATE tasker_steps
            SET state = 'in_progress', attempts = attempts + 1, worker = p_worker, due_at = v_at + p_lease,
                lost_attempts = lost_attempts + (v_step.state = 'in_progress')::int, started_at = v_at,
                finished_at = NULL, awaits = NULL, progress = NULL
            WHERE task_id = v_found.task_id AND position = v_found.position;
            IF v_task.state = 'pending' THEN
                v_task.state := 'in_progress';
                v_task.transitions := v_task.transitions + 1;
                INSERT INTO tasker_transitions (task_id, sequence, from_state, to_state, at)
                VALUES (v_found.task_id, v_task.transitions, 'pending', 'in_progress', v_at);
            END IF;
            IF v_step.state <> 'pending' THEN
                v_task.transitions := v_task.transitions + 1;
                INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                                worker, reason)
                VALUES (v_found.task_id, v_task.transitions, v_found.position, v_step.state, 'pending', v_at,
                        v_step.attempts + (v_step.state = 'error')::int, v_step.worker,
                        CASE v_step.state WHEN 'error' THEN 'retry' ELSE 'lease_lost' END);
            END IF;
            v_task.transitions := v_task.transitions + 1;
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker)
            VALUES (v_found.task_id, v_task.transitions, v_found.position, 'pending', 'in_progress', v_at,
                    v_step.attempts + 1, p_worker);
            v_wanted[v_found.ordinal] := true;
            v_taken := v_taken + 1;
            v_slots := v_slots - 1;
        END LOOP;
        v_task := NULL;
        RETURN QUERY SELECT * FROM tasker_inputs(v_tasks, v_positions, v_wanted);
        -- Another round only if some of these failed instead of taking up a slot.
        EXIT WHEN v_lost = 0 OR v_slots = 0;
    END LOOP;
    RETURN NEXT ROW('summary', NULL, NULL, v_taken, NULL, NULL, NULL, NULL, NULL, NULL, v_now, v_reached,
                    v_left_due, NULL, NULL, NULL)::tasker_answer;
END $$;

-- Fails every open step of tasks whose deadline has passed; running attempts lose their lease.
CREATE FUNCTION tasker_past_deadline(p_now timestamptz) RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasker_tasks;
    v_step tasker_steps;
BEGIN
    FOR v_task IN
        SELECT * FROM tasker_tasks WHERE deadline_at <= p_now ORDER BY deadline_at LIMIT 100
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        FOR v_step IN
            SELECT * FROM tasker_steps WHERE task_id = v_task.task_id AND due_at IS NOT NULL ORDER BY position
        LOOP
            UPDATE tasker_steps
            SET state = 'error', failure = 'deadline_exceeded', due_at = NULL, worker = NULL,
                finished_at = p_now
            WHERE task_id = v_task.task_id AND position = v_step.position;
            -- A step that waits for its retry has failed already: it only stops waiting.
            IF v_step.state <> 'error' THEN
                v_task.transitions := v_task.transitions + 1;
                INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                                worker, reason, failure)
                VALUES (v_task.task_id, v_task.transitions, v_step.position, v_step.state, 'error', p_now,
                        nullif(v_step.attempts, 0), v_step.worker, 'deadline_exceeded',
                        json_build_object('kind', 'deadline_exceeded',
                                          'message', 'the deadline of the task has passed'));
            END IF;
            v_task.open_steps := v_task.open_steps - 1;
            v_task.failed_steps := v_task.failed_steps + 1;
            IF v_task.counts_ends THEN
                PERFORM tasker_count_ends(v_task, '{}', '{}', ARRAY[v_step.position], p_now, false);
            END IF;
        END LOOP;
        RETURN QUERY SELECT * FROM tasker_close(v_task, p_now);
    END LOOP;
END $$;

-- Creates tasks with their steps and first transitions, and hands roots over.
--
-- The arrays have one element per task. p_takes: how many of its roots, by position, the worker takes at
-- once. p_bypass holds JSON arrays of names. Answers name the tasks that were not created: word is
-- existing or duplicate, task_id the task that is meant, and numbers its place from 1. Claimed roots are
-- answered without inputs: the caller has them. The last four are of sub-tasks, and of a task that undoes
-- another.
CREATE FUNCTION tasker_create(
    p_now timestamptz, p_ids uuid[], p_template_ids bigint[], p_contexts text[], p_initiators text[],
    p_source_systems text[], p_reasons text[], p_tags text[], p_bypass text[],
    p_requested_at timestamptz[], p_keys text[], p_identities text[], p_since timestamptz[],
    p_priorities int[], p_start_at timestamptz[], p_takes int[], p_worker uuid, p_lease_ms bigint,
    p_parent uuid DEFAULT NULL, p_parent_position int DEFAULT NULL, p_ordinals int[] DEFAULT NULL,
    p_held boolean[] DEFAULT NULL)
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now timestamptz;
    v_until timestamptz;
    v_known uuid[];
    v_words text[];
    v_limited boolean;
    v_template_id bigint;
    v_steps int;
    v_roots int;
    v_deadline interval;
    v_counts_ends boolean;
    v_takes int;
    v_id uuid;
    r record;
BEGIN
    IF array_remove(p_keys, NULL) <> '{}' OR array_remove(p_identities, NULL) <> '{}' THEN
        SELECT * INTO v_known, v_words
        FROM tasker_known(p_ids, p_keys, p_identities, p_since);
    END IF;
    v_now := coalesce(p_now, clock_timestamp());
    v_until := v_now + make_interval(secs => p_lease_ms / 1000.0);
    -- What a limited queue has room for is known to a look for due steps alone.
    v_limited := EXISTS (SELECT FROM tasker_queues);

    FOR i IN 1 .. cardinality(p_ids) LOOP
        v_id := p_ids[i];
        IF v_known[i] IS NULL THEN
            -- Nothing is inserted if the id exists: the create was repeated after a lost answer.
            INSERT INTO tasker_requests (task_id, context, initiator, source_system, reason, tags, bypass_steps,
                                         requested_at, idempotency_key, identity, priority, start_at)
            VALUES (v_id, p_contexts[i]::json, p_initiators[i], p_source_systems[i], p_reasons[i],
                    p_tags[i]::json, p_bypass[i]::json, coalesce(p_requested_at[i], v_now), p_keys[i],
                    p_identities[i], p_priorities[i], p_start_at[i])
            ON CONFLICT (task_id) DO NOTHING;
        END IF;
        IF v_known[i] IS NOT NULL OR NOT FOUND THEN
            RETURN NEXT ROW('created', coalesce(v_known[i], v_id), NULL, NULL, NULL, NULL,
                            coalesce(v_words[i], 'existing'), NULL, NULL, ARRAY[i], NULL, NULL,
                            NULL, NULL, NULL, NULL)::tasker_answer;
            CONTINUE;
        END IF;
        IF v_template_id IS DISTINCT FROM p_template_ids[i] THEN
            SELECT template_id, steps, roots, make_interval(secs => deadline_ms / 1000.0), counts_ends
            INTO v_template_id, v_steps, v_roots, v_deadline, v_counts_ends
            FROM tasker_templates
            WHERE template_id = p_template_ids[i];
        END IF;
        v_takes := CASE WHEN v_limited THEN 0 ELSE p_takes[i] END;
        -- All that is recorded of a creation is known beforehand, numbers included.
        INSERT INTO tasker_tasks (task_id, template_id, state, total_steps, done_steps, open_steps, failed_steps,
                                  cancelled_steps, transitions, created_at, deadline_at, counts_ends,
                                  parent_task, parent_position, ordinal, held)
        VALUES (v_id, p_template_ids[i], CASE WHEN v_takes > 0 THEN 'in_progress' ELSE 'pending' END,
                v_steps, 0, v_roots, 0, 0, 1 + v_steps + v_takes + (v_takes > 0)::int, v_now,
                v_now + v_deadline, v_counts_ends,
                p_parent, p_parent_position, p_ordinals[i], coalesce(p_held[i], false));
        INSERT INTO tasker_transitions (task_id, sequence, to_state, at) VALUES (v_id, 1, 'pending', v_now);
        INSERT INTO tasker_transitions (task_id, sequence, position, to_state, at)
        SELECT v_id, 2 + position, position, 'pending', v_now
        FROM tasker_template_steps
        WHERE template_id = p_template_ids[i];
        INSERT INTO tasker_steps (task_id, position, attempts, attempt_limit, lost_attempts, unfinished_parents,
                                  priority, template_id, due_at, state, queue, name, awaited)
        SELECT v_id, position, 0, attempt_limit, 0, parents, p_priorities[i], template_id,
               CASE WHEN parents > 0 THEN NULL
                    WHEN p_held[i] THEN tasker_never()
                    ELSE greatest(v_now, p_start_at[i]) END,
               'pending', queue, name, awaited
        FROM tasker_template_steps
        WHERE template_id = p_template_ids[i] AND (root > v_takes OR root IS NULL);
        IF v_takes > 0 THEN
            INSERT INTO tasker_transitions (task_id, sequence, from_state, to_state, at)
            VALUES (v_id, 2 + v_steps, 'pending', 'in_progress', v_now);
            FOR r IN
                INSERT INTO tasker_steps (task_id, position, attempts, attempt_limit, lost_attempts,
                                          unfinished_parents, priority, template_id, due_at, started_at, worker,
                                          state, queue, name)
                SELECT v_id, position, 1, attempt_limit, 0, 0, p_priorities[i], template_id, v_until, v_now,
                       p_worker, 'in_progress', queue, name
                FROM tasker_template_steps
                WHERE template_id = p_template_ids[i] AND root <= v_takes
                ORDER BY position
                RETURNING position, attempt_limit
            LOOP
                RETURN NEXT ROW('claimed', v_id, r.position, 1, r.attempt_limit, p_template_ids[i], NULL, NULL,
                                NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::tasker_answer;
            END LOOP;
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker)
            SELECT v_id, 2 + v_steps + root, position, 'pending', 'in_progress', v_now, 1, p_worker
            FROM tasker_template_steps
            WHERE template_id = p_template_ids[i] AND root <= p_takes[i];
        END IF;
        IF p_bypass[i] <> '[]' THEN
            RETURN QUERY SELECT * FROM tasker_bypass(v_id, p_bypass[i]::json, v_now);
        END IF;
    END LOOP;
    RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, v_now, NULL,
                    v_limited, NULL, NULL, NULL)::tasker_answer;
END $$;

-- Creates the sub-tasks of a step, or what undoes a task, in one call: nothing of them is claimed by it. Those
-- that nobody wants any more, since the attempt has lost its lease or what is to be undone has neither failed nor
-- been cancelled, are answered with the word unwanted.
--
-- p_position is null for an undo. p_holder and p_attempt are of the lease; p_replaces names the cancelled
-- sub-tasks whose places are taken. The rest is as in tasker_create. The parent is locked, so that all of this
-- is over before anything else becomes of it.
CREATE FUNCTION tasker_create_subtasks(
    p_now timestamptz, p_parent uuid, p_position int, p_holder uuid, p_attempt int, p_planned int,
    p_concurrency int, p_max_failures int, p_gather text, p_ordinals int[], p_replaces uuid[],
    p_ids uuid[], p_template_ids bigint[], p_contexts text[], p_initiators text[],
    p_source_systems text[], p_reasons text[], p_tags text[], p_bypass text[],
    p_requested_at timestamptz[], p_keys text[], p_identities text[], p_since timestamptz[],
    p_priorities int[], p_start_at timestamptz[])
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_wanted boolean;
    v_tally tasker_subtasks;
    v_replaced int := 0;
    v_room int;
    v_held boolean[];
    v_known int[] := '{}';
    v_answer tasker_answer;
BEGIN
    PERFORM 1
    FROM tasker_tasks
    WHERE task_id = ANY (array_append(p_replaces, p_parent))
    ORDER BY task_id
    FOR NO KEY UPDATE;
    IF p_position IS NULL THEN
        SELECT state IN ('error', 'cancelled') INTO v_wanted FROM tasker_tasks WHERE task_id = p_parent;
    ELSE
        SELECT true INTO v_wanted
        FROM tasker_steps
        WHERE task_id = p_parent AND position = p_position AND attempts = p_attempt AND worker = p_holder
          AND state = 'in_progress';
    END IF;
    IF v_wanted IS NOT TRUE THEN
        FOR i IN 1 .. cardinality(p_ids) LOOP
            RETURN NEXT ROW('created', p_ids[i], NULL, NULL, NULL, NULL, 'unwanted', NULL, NULL, ARRAY[i], NULL,
                            NULL, NULL, NULL, NULL, NULL)::tasker_answer;
        END LOOP;
        RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                        coalesce(p_now, clock_timestamp()), NULL, false, NULL, NULL, NULL)::tasker_answer;
        RETURN;
    END IF;
    IF p_position IS NOT NULL THEN
        -- What came first counts.
        INSERT INTO tasker_subtasks (task_id, position, planned, concurrency, max_failures, gather, created, open,
                                     held, failed, unsettled)
        VALUES (p_parent, p_position, p_planned, p_concurrency, p_max_failures, p_gather, 0, 0, 0, 0, false)
        ON CONFLICT DO NOTHING;
        UPDATE tasker_tasks t
        SET ordinal = NULL
        FROM unnest(p_replaces, p_ordinals) AS r (task_id, ordinal)
        WHERE t.task_id = r.task_id AND t.parent_task = p_parent AND t.parent_position = p_position
          AND t.ordinal = r.ordinal AND t.state IN ('error', 'cancelled');
        GET DIAGNOSTICS v_replaced = ROW_COUNT;
        -- Not locked yet: others can only make more room meanwhile, and then what is held is released below.
        SELECT * INTO v_tally FROM tasker_subtasks WHERE task_id = p_parent AND position = p_position;
        v_room := CASE WHEN v_tally.failed - v_replaced > v_tally.max_failures THEN 0
                       ELSE v_tally.concurrency - v_tally.open + v_tally.held END;
        SELECT array_agg(n.nth > v_room ORDER BY n.place) INTO v_held
        FROM (SELECT i.place,
                     count(*) FILTER (WHERE NOT EXISTS (SELECT FROM tasker_tasks t WHERE t.task_id = i.id))
                         OVER (ORDER BY i.place) AS nth
              FROM unnest(p_ids) WITH ORDINALITY AS i (id, place)) n;
    END IF;
    FOR v_answer IN
        SELECT *
        FROM tasker_create(p_now, p_ids, p_template_ids, p_contexts, p_initiators, p_source_systems, p_reasons,
                           p_tags, p_bypass, p_requested_at, p_keys, p_identities, p_since, p_priorities,
                           p_start_at, array_fill(0, ARRAY[cardinality(p_ids)]), NULL, 0, p_parent, p_position,
                           p_ordinals, v_held)
    LOOP
        IF v_answer.kind = 'created' THEN
            v_known := v_known || v_answer.numbers;
        ELSIF v_answer.kind = 'summary' AND p_position IS NOT NULL THEN
            UPDATE tasker_subtasks
            SET created = created - v_replaced, failed = failed - v_replaced
            WHERE task_id = p_parent AND position = p_position AND v_replaced > 0;
            PERFORM tasker_count_subtasks(
                p_now, ARRAY(SELECT i.id FROM unnest(p_ids) WITH ORDINALITY AS i (id, place)
                             WHERE i.place <> ALL (v_known)),
                '{}', '{}', '{}');
        END IF;
        RETURN NEXT v_answer;
    END LOOP;
END $$;

-- Which requests mean a task that exists. Equal requests wait for each other here, in one order; then one
-- statement sees them all.
CREATE FUNCTION tasker_known(
    p_ids uuid[], p_keys text[], p_identities text[], p_since timestamptz[], OUT known uuid[], OUT words text[])
LANGUAGE plpgsql AS $$
DECLARE
    v_first jsonb := '{}';
    v_id uuid;
    v_word text;
    i record;
BEGIN
    PERFORM pg_advisory_xact_lock(l.lock)
    FROM (SELECT DISTINCT hashtextextended(text, 0) AS lock
          FROM (SELECT unnest(p_keys) UNION ALL SELECT unnest(p_identities)) AS equal (text)
          WHERE text IS NOT NULL
          ORDER BY 1) l;
    FOR i IN
        SELECT * FROM unnest(p_ids, p_keys, p_identities, p_since) AS i (task_id, key, identity, since)
    LOOP
        v_word := NULL;
        SELECT r.task_id INTO v_id FROM tasker_requests r WHERE r.idempotency_key = i.key;
        v_id := coalesce(v_id, (v_first ->> ('key ' || i.key))::uuid);
        IF v_id IS NOT NULL THEN
            v_word := 'existing';
        ELSIF i.identity IS NOT NULL THEN
            SELECT r.task_id INTO v_id
            FROM tasker_requests r
            WHERE r.identity = i.identity AND r.requested_at > coalesce(i.since, '-infinity')
            LIMIT 1;
            v_id := coalesce(v_id, (v_first ->> ('identity ' || i.identity))::uuid);
            -- A repeated create finds what it created itself.
            v_word := CASE WHEN v_id = i.task_id THEN 'existing' WHEN v_id IS NOT NULL THEN 'duplicate' END;
        END IF;
        IF v_id IS NULL THEN
            -- The first of its kind, also for those that come after it in this call.
            v_first := v_first || jsonb_strip_nulls(jsonb_build_object(
                'key ' || coalesce(i.key, ''), CASE WHEN i.key IS NOT NULL THEN i.task_id END,
                'identity ' || coalesce(i.identity, ''), CASE WHEN i.identity IS NOT NULL THEN i.task_id END));
        END IF;
        known := array_append(known, v_id);
        words := array_append(words, v_word);
    END LOOP;
END $$;

-- Skips the steps that a request bypasses, of a task that was just created and of which nothing runs.
CREATE FUNCTION tasker_bypass(p_task uuid, p_names json, p_now timestamptz) RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
DECLARE
    v_task tasker_tasks;
    v_start timestamptz;
    v_skipped int[] := '{}';
    v_child record;
    s record;
BEGIN
    SELECT * INTO v_task FROM tasker_tasks WHERE task_id = p_task;
    SELECT coalesce(max(due_at), p_now) INTO v_start FROM tasker_steps WHERE task_id = p_task;
    FOR s IN
        UPDATE tasker_steps
        SET state = 'skipped', due_at = NULL, finished_at = NULL
        WHERE task_id = p_task AND name IN (SELECT json_array_elements_text(p_names))
        RETURNING position, unfinished_parents
    LOOP
        v_skipped := v_skipped || s.position;
        v_task.open_steps := v_task.open_steps - (s.unfinished_parents = 0)::int;
        v_task.done_steps := v_task.done_steps + 1;
    END LOOP;
    INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, reason)
    SELECT p_task, v_task.transitions + n.ordinal, n.position, 'pending', 'skipped', p_now, 'bypassed'
    FROM (SELECT position, row_number() OVER (ORDER BY position) AS ordinal
          FROM unnest(v_skipped) AS position) n;
    v_task.transitions := v_task.transitions + cardinality(v_skipped);
    FOR v_child IN
        SELECT e.child, count(*)::int AS parents, sum(e.on_skip)::int AS counted
        FROM tasker_template_edges e
        WHERE e.template_id = v_task.template_id AND e.parent = ANY (v_skipped)
        GROUP BY e.child
    LOOP
        UPDATE tasker_steps
        SET unfinished_parents = unfinished_parents - v_child.parents, awaited = awaited - v_child.counted,
            due_at = CASE WHEN unfinished_parents = v_child.parents AND state = 'pending' THEN v_start END
        WHERE task_id = p_task AND position = v_child.child
        RETURNING due_at INTO s;
        v_task.open_steps := v_task.open_steps + (s.due_at IS NOT NULL)::int;
    END LOOP;
    IF v_task.open_steps = 0 THEN
        -- Nothing is left to do: the task starts and ends at once.
        v_task.state := 'in_progress';
        v_task.transitions := v_task.transitions + 1;
        INSERT INTO tasker_transitions (task_id, sequence, from_state, to_state, at)
        VALUES (p_task, v_task.transitions, 'pending', 'in_progress', p_now);
    END IF;
    RETURN QUERY SELECT * FROM tasker_close(v_task, p_now);
END $$;

-- Takes what is due, fails what is past its deadline, and says when to look again.
--
-- p_thorough: look everywhere, also where nothing should be left, and say when the next lease ends.
CREATE FUNCTION tasker_claim(
    p_now timestamptz, p_worker uuid, p_lease_ms bigint, p_slots int, p_queues text[],
    p_templates bigint[], p_due_after timestamptz, p_leased_after timestamptz, p_thorough boolean)
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_answer tasker_answer;
    v_next timestamptz;
    v_ended uuid[] := '{}';
    v_settled record;
BEGIN
    FOR v_answer IN SELECT * FROM tasker_past_deadline(v_now) LOOP
        IF v_answer.position IS NOT NULL THEN
            v_ended := v_ended || v_answer.task_id;
        END IF;
        RETURN NEXT v_answer;
    END LOOP;
    FOR v_answer IN
        SELECT * FROM tasker_take_due(p_now, p_worker, make_interval(secs => p_lease_ms / 1000.0), p_slots,
                                      p_queues, p_templates, p_due_after, p_leased_after, true)
    LOOP
        IF v_answer.kind <> 'summary' THEN
            IF v_answer.kind = 'finished' AND v_answer.position IS NOT NULL THEN
                v_ended := v_ended || v_answer.task_id;
            END IF;
            RETURN NEXT v_answer;
            CONTINUE;
        END IF;
        IF v_ended <> '{}' THEN
            v_answer.left_due := tasker_count_subtasks(p_now, v_ended,
                                                       array_fill('in_progress'::text, ARRAY[cardinality(v_ended)]),
                                                       '{}', '{}') OR v_answer.left_due;
        END IF;
        v_settled := tasker_settle_left(p_now);
        v_answer.left_due := v_answer.left_due OR v_settled.made_due;
        IF v_answer.attempt < p_slots THEN
            SELECT min(n.at) INTO v_next
            FROM (
                SELECT min(deadline_at) AS at FROM tasker_tasks WHERE deadline_at IS NOT NULL
                UNION ALL
                -- Somebody has their task locked at this moment, and may leave them.
                SELECT v_now + interval '5 milliseconds'
                WHERE EXISTS (
                    SELECT FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                    CROSS JOIN LATERAL (
                        SELECT FROM tasker_steps s
                        WHERE s.queue = r.queue AND s.template_id = r.template_id
                          AND s.due_at > coalesce(p_due_after, '-infinity') AND s.due_at <= v_now
                          AND s.state <> 'in_progress'
                        LIMIT 1) d
                    WHERE NOT EXISTS (SELECT FROM tasker_queues q WHERE q.queue = r.queue))
                   OR EXISTS (SELECT FROM tasker_subtasks WHERE unsettled)
                UNION ALL
                SELECT d.due_at
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.due_at
                    FROM tasker_steps s
                    WHERE s.queue = r.queue AND s.template_id = r.template_id AND s.due_at > v_now
                      AND s.state <> 'in_progress'
                    ORDER BY s.due_at
                    LIMIT 1) d
            ) n;
            IF p_thorough THEN
                SELECT least(v_next, min(d.due_at)) INTO v_next
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.due_at
                    FROM tasker_steps s
                    WHERE s.queue = r.queue AND s.template_id = r.template_id AND s.due_at > v_now
                      AND s.state = 'in_progress'
                    ORDER BY s.due_at
                    LIMIT 1) d;
            END IF;
        END IF;
        IF NOT v_answer.left_due THEN
            v_answer.next_due := v_next;
        END IF;
        RETURN NEXT v_answer;
    END LOOP;
END $$;

-- Records the ends of attempts, makes children due or hands them over, and takes what is due.
--
-- The arrays have one element per completion and are sorted by task. p_ends: complete, error, skipped, pending
-- (handed back), waiting or subtasks (waiting for those that it has started). p_delays_ms: when to try again after
-- a failure; null if for good; or how long to wait, unless p_until says until when. p_words: why it was skipped,
-- the signal that it waits for, or what was noted when it was complete, as a list of types, each before its note.
-- p_limited: the failure may be tried again, but the worker believes that no attempt is left; the limit may have
-- been raised meanwhile.
-- p_slots is 0 without a budget. p_runs: what the worker runs, as `template:queue`;
-- p_queues and p_templates say the same as columns. p_also_due: look for steps that were due before, too.
-- p_known: the worker has the contexts of these tasks, and of course the results that it hands in, so a
-- child all of whose parents ended here is answered without its inputs.
CREATE FUNCTION tasker_complete(
    p_now timestamptz, p_worker uuid, p_tasks uuid[], p_positions int[], p_attempts int[], p_ends text[],
    p_delays_ms bigint[], p_limited boolean[], p_kinds text[], p_failures text[], p_results text[], p_logs text[],
    p_words text[], p_until timestamptz[],
    p_lease_ms bigint, p_slots int, p_runs text[], p_queues text[], p_templates bigint[], p_also_due boolean,
    p_due_after timestamptz, p_leased_after timestamptz, p_known boolean)
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now timestamptz := coalesce(p_now, clock_timestamp());
    v_lease interval := make_interval(secs => p_lease_ms / 1000.0);
    v_task tasker_tasks;
    v_step record;
    v_child record;
    v_done int[] := '{}';
    v_skipped int[] := '{}';
    v_failed int[] := '{}';
    v_ripe int;
    v_until timestamptz;
    v_signal json;
    v_touched boolean := false;
    v_recorded int[] := '{}';
    v_slots int := p_slots;
    v_left_due boolean := false;
    v_read_tasks uuid[] := '{}';
    v_read_positions int[] := '{}';
    v_limited text[] := ARRAY(SELECT queue FROM tasker_queues);
    v_answer tasker_answer;
    v_look text;
    v_reached timestamptz;
    v_taken boolean;
    v_ready boolean;
    v_settled record;
    v_ended uuid[] := '{}';
    v_waiting_tasks uuid[] := '{}';
    v_waiting_positions int[] := '{}';
    e record;
BEGIN
    -- One round more than there are completions: it closes the last task.
    FOR i IN 1 .. cardinality(p_tasks) + 1 LOOP
        IF p_tasks[i] IS DISTINCT FROM v_task.task_id THEN
            IF v_done <> '{}' THEN
                FOR e IN
                    SELECT g.child, count(*)::int AS parents, g.child_parents,
                           (g.template_id || ':' || g.child_queue) = ANY (p_runs)
                           AND g.child_queue <> ALL (v_limited) AS mine
                    FROM tasker_template_edges g
                    WHERE g.template_id = v_task.template_id AND g.parent = ANY (v_done)
                      AND g.on_success IS NULL
                    GROUP BY g.template_id, g.child, g.child_parents, g.child_queue
                    ORDER BY g.child
                LOOP
                    IF e.mine AND v_slots > 0 THEN
                        -- A step that becomes ready is claimed by the worker that made it so: one update
                        -- instead of two, and no detour through the index of due steps.
                        UPDATE tasker_steps
                        SET unfinished_parents = 0, state = 'in_progress', attempts = attempts + 1,
                            worker = p_worker, started_at = v_now, due_at = v_now + v_lease
                        WHERE task_id = v_task.task_id AND position = e.child
                          AND unfinished_parents = e.parents AND state = 'pending'
                        RETURNING attempts, attempt_limit INTO v_child;
                        v_taken := FOUND;
                    ELSE
                        v_taken := false;
                    END IF;
                    IF NOT v_taken THEN
                        UPDATE tasker_steps
                        SET due_at = CASE WHEN unfinished_parents = e.parents AND state = 'pending'
                                          THEN v_now ELSE due_at END,
                            unfinished_parents = unfinished_parents - e.parents
                        WHERE task_id = v_task.task_id AND position = e.child
                        RETURNING unfinished_parents = 0 AND state = 'pending' AS ready INTO v_child;
                    END IF;
                    IF v_taken THEN
                        v_slots := v_slots - 1;
                        v_task.open_steps := v_task.open_steps + 1;
                        v_task.transitions := v_task.transitions + 1;
                        INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at,
                                                        attempt, worker)
                        VALUES (v_task.task_id, v_task.transitions, e.child, 'pending', 'in_progress', v_now,
                                v_child.attempts, p_worker);
                        IF p_known AND e.parents = e.child_parents THEN
                            RETURN NEXT ROW('claimed', v_task.task_id, e.child, v_child.attempts,
                                            v_child.attempt_limit, v_task.template_id, NULL, NULL, NULL, NULL,
                                            NULL, NULL, NULL, NULL, NULL, NULL)::tasker_answer;
                        ELSE
                            v_read_tasks := v_read_tasks || v_task.task_id;
                            v_read_positions := v_read_positions || e.child;
                        END IF;
                    ELSIF v_child.ready THEN
                        v_task.open_steps := v_task.open_steps + 1;
                        v_left_due := true;
                    END IF;
                END LOOP;
            END IF;
            IF v_task.counts_ends AND v_done || v_failed <> '{}' THEN
                v_ripe := tasker_count_ends(v_task, v_done, v_skipped, v_failed, v_now, true);
                v_task.open_steps := v_task.open_steps + v_ripe;
                v_left_due := v_left_due OR v_ripe > 0;
            END IF;
            v_done := '{}';
            v_skipped := '{}';
            v_failed := '{}';
            IF v_touched THEN
                IF v_task.open_steps = 0 AND v_task.ordinal IS NOT NULL THEN
                    v_ended := v_ended || v_task.task_id;
                END IF;
                IF v_task.open_steps = 0 AND v_task.done_steps = v_task.total_steps
                   AND v_task.state = 'in_progress' THEN
                    -- What tasker_close would do, for the end that most tasks come to.
                    INSERT INTO tasker_transitions (task_id, sequence, from_state, to_state, at)
                    VALUES (v_task.task_id, v_task.transitions + 1, 'in_progress', 'complete', v_now);
                    UPDATE tasker_tasks
                    SET state = 'complete', done_steps = v_task.done_steps, open_steps = 0,
                        transitions = v_task.transitions + 1, finished_at = v_now, deadline_at = NULL
                    WHERE task_id = v_task.task_id;
                    RETURN NEXT ROW('finished', v_task.task_id, v_task.parent_position, NULL, NULL, NULL, 'complete',
                                    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::tasker_answer;
                ELSIF v_task.open_steps = 0 THEN
                    RETURN QUERY SELECT * FROM tasker_close(v_task, v_now);
                ELSE
                    UPDATE tasker_tasks
                    SET done_steps = v_task.done_steps, open_steps = v_task.open_steps,
                        failed_steps = v_task.failed_steps, transitions = v_task.transitions
                    WHERE task_id = v_task.task_id;
                END IF;
            END IF;
            EXIT WHEN p_tasks[i] IS NULL;
            v_touched := false;
            SELECT * INTO v_task FROM tasker_tasks WHERE task_id = p_tasks[i] FOR NO KEY UPDATE;
            v_now := coalesce(p_now, clock_timestamp());
        END IF;
        IF p_ends[i] IN ('waiting', 'subtasks') THEN
            -- The attempt does not count. A signal that came early ends the wait at once, and so do sub-tasks
            -- that have all ended; what ends meanwhile is seen when the tally is locked, below.
            v_until := coalesce(p_until[i], v_now + make_interval(secs => p_delays_ms[i] / 1000.0));
            SELECT payload INTO v_signal FROM tasker_signals WHERE task_id = p_tasks[i] AND name = p_words[i];
            v_ready := v_signal IS NOT NULL;
            IF p_ends[i] = 'subtasks' THEN
                v_ready := NOT EXISTS (SELECT FROM tasker_subtasks c
                                       WHERE c.task_id = p_tasks[i] AND c.position = p_positions[i]
                                         AND NOT tasker_is_decided(c));
            END IF;
            UPDATE tasker_steps
            SET state = 'pending', worker = NULL, attempts = attempts - 1, waited_until = v_until,
                awaits = p_words[i], signal = coalesce(v_signal, signal), due_at = CASE WHEN v_ready THEN v_now ELSE v_until END
            WHERE task_id = p_tasks[i] AND position = p_positions[i] AND attempts = p_attempts[i]
              AND worker = p_worker
            RETURNING due_at, queue INTO v_step;
            CONTINUE WHEN NOT FOUND;
            v_touched := true;
            v_left_due := v_left_due OR v_step.due_at <= v_now OR v_step.queue = ANY (v_limited);
            IF p_ends[i] = 'subtasks' AND NOT v_ready THEN
                v_waiting_tasks := v_waiting_tasks || p_tasks[i];
                v_waiting_positions := v_waiting_positions || p_positions[i];
            END IF;
            v_recorded := v_recorded || i;
            v_task.transitions := v_task.transitions + 1;
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker, reason, retry_at, log)
            VALUES (p_tasks[i], v_task.transitions, p_positions[i], 'in_progress', 'pending', v_now, p_attempts[i],
                    p_worker, 'waiting', v_step.due_at, p_logs[i]);
            CONTINUE;
        END IF;
        -- Only the attempt that holds the lease: everybody else changes nothing.
        UPDATE tasker_steps
        SET state = p_ends[i], worker = NULL, finished_at = v_now, result = p_results[i]::json,
            failure = CASE WHEN p_ends[i] = 'pending' THEN failure ELSE p_kinds[i] END,
            attempts = attempts - (p_ends[i] = 'pending')::int,
            due_at = CASE
                WHEN p_ends[i] = 'pending' OR (p_limited[i] AND attempts < attempt_limit) THEN v_now
                ELSE v_now + make_interval(secs => p_delays_ms[i] / 1000.0)
            END
        WHERE task_id = p_tasks[i] AND position = p_positions[i] AND attempts = p_attempts[i] AND worker = p_worker
        RETURNING due_at, started_at, queue INTO v_step;
        CONTINUE WHEN NOT FOUND;
        v_touched := true;
        -- There is room on a limited queue now.
        v_left_due := v_left_due OR v_step.queue = ANY (v_limited);
        v_recorded := v_recorded || i;
        v_task.transitions := v_task.transitions + 1;
        IF p_ends[i] = 'complete' THEN
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker, duration, log)
            VALUES (p_tasks[i], v_task.transitions, p_positions[i], 'in_progress', 'complete', v_now, p_attempts[i],
                    p_worker, greatest(0, round(extract(epoch FROM v_now - v_step.started_at) * 1000000)), p_logs[i]);
            v_task.open_steps := v_task.open_steps - 1;
            v_task.done_steps := v_task.done_steps + 1;
            v_done := v_done || p_positions[i];
            IF p_words[i] IS NOT NULL THEN
                -- Only the types are read as text: in the rest may be what no text can hold.
                INSERT INTO tasker_annotations (task_id, sequence, ordinal, position, annotation_type, annotation, at)
                SELECT p_tasks[i], v_task.transitions, t.ordinal, p_positions[i], t.element #>> '{}', n.element, v_now
                FROM json_array_elements(p_words[i]::json) WITH ORDINALITY AS t (element, ordinal)
                JOIN json_array_elements(p_words[i]::json) WITH ORDINALITY AS n (element, ordinal)
                  ON n.ordinal = t.ordinal + 1
                WHERE t.ordinal % 2 = 1;
            END IF;
        ELSIF p_ends[i] = 'error' THEN
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker, duration, failure, retry_at, log)
            VALUES (p_tasks[i], v_task.transitions, p_positions[i], 'in_progress', 'error', v_now, p_attempts[i],
                    p_worker, greatest(0, round(extract(epoch FROM v_now - v_step.started_at) * 1000000)),
                    p_failures[i]::json, v_step.due_at, p_logs[i]);
            IF v_step.due_at IS NULL THEN
                v_task.open_steps := v_task.open_steps - 1;
                v_task.failed_steps := v_task.failed_steps + 1;
                v_failed := v_failed || p_positions[i];
                v_task.aftermath_at := coalesce(tasker_abandon(p_tasks[i], p_positions[i], v_now),
                                                v_task.aftermath_at);
            END IF;
        ELSIF p_ends[i] = 'skipped' THEN
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker, duration, reason, log)
            VALUES (p_tasks[i], v_task.transitions, p_positions[i], 'in_progress', 'skipped', v_now, p_attempts[i],
                    p_worker, greatest(0, round(extract(epoch FROM v_now - v_step.started_at) * 1000000)),
                    p_words[i], p_logs[i]);
            v_task.open_steps := v_task.open_steps - 1;
            v_task.done_steps := v_task.done_steps + 1;
            v_done := v_done || p_positions[i];
            v_skipped := v_skipped || p_positions[i];
        ELSE
            INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                            worker, reason, log)
            VALUES (p_tasks[i], v_task.transitions, p_positions[i], 'in_progress', 'pending', v_now, p_attempts[i],
                    p_worker, 'handed_back', p_logs[i]);
            v_left_due := true;
        END IF;
    END LOOP;

    IF v_read_tasks <> '{}' THEN
        RETURN QUERY SELECT * FROM tasker_inputs(v_read_tasks, v_read_positions,
                                                 array_fill(true, ARRAY[cardinality(v_read_tasks)]));
    END IF;
    IF p_also_due AND v_slots > 0 THEN
        FOR v_answer IN
            SELECT * FROM tasker_take_due(p_now, p_worker, v_lease, v_slots, p_queues, p_templates,
                                          p_due_after, p_leased_after, false)
        LOOP
            IF v_answer.kind = 'summary' THEN
                v_left_due := v_left_due OR v_answer.left_due OR v_limited <> '{}';
                v_look := v_answer.word;
                -- What a limited queue has no room for is left behind.
                v_reached := CASE WHEN v_limited = '{}' THEN v_answer.next_due END;
            ELSE
                IF v_answer.kind = 'finished' AND v_answer.position IS NOT NULL THEN
                    v_ended := v_ended || v_answer.task_id;
                END IF;
                RETURN NEXT v_answer;
            END IF;
        END LOOP;
    ELSIF p_also_due THEN
        -- Without a slot nobody looks, so nobody knows: whoever asked must ask again.
        v_left_due := true;
    END IF;
    IF v_ended <> '{}' OR v_waiting_tasks <> '{}' THEN
        v_left_due := tasker_count_subtasks(p_now, v_ended,
                                            array_fill('in_progress'::text, ARRAY[cardinality(v_ended)]),
                                            v_waiting_tasks, v_waiting_positions) OR v_left_due;
    END IF;
    IF p_also_due THEN
        v_settled := tasker_settle_left(p_now);
        v_left_due := v_left_due OR v_settled.made_due OR v_settled.unsettled;
    END IF;
    RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, v_look, NULL, NULL, v_recorded, v_now, v_reached,
                    v_left_due, NULL, NULL, NULL)::tasker_answer;
END $$;

-- Extends leases; gives the places, from 1, of those that hold.
CREATE FUNCTION tasker_heartbeat(
    p_now timestamptz, p_worker uuid, p_tasks uuid[], p_positions int[], p_attempts int[], p_lease_ms bigint)
RETURNS int[]
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_until timestamptz;
    v_held int[];
BEGIN
    PERFORM 1 FROM tasker_tasks WHERE task_id = ANY (p_tasks) ORDER BY task_id FOR NO KEY UPDATE;
    v_until := coalesce(p_now, clock_timestamp()) + make_interval(secs => p_lease_ms / 1000.0);
    WITH held AS (
        UPDATE tasker_steps s
        SET due_at = v_until
        FROM unnest(p_tasks, p_positions, p_attempts) WITH ORDINALITY
            AS l (task_id, position, attempt, ordinal)
        WHERE s.task_id = l.task_id AND s.position = l.position AND s.attempts = l.attempt
          AND s.worker = p_worker
        RETURNING l.ordinal::int AS ordinal
    )
    SELECT array_agg(ordinal) INTO v_held FROM held;
    RETURN coalesce(v_held, '{}');
END $$;

-- Notes how far attempts have come.
CREATE FUNCTION tasker_note_progress(
    p_worker uuid, p_tasks uuid[], p_positions int[], p_attempts int[], p_notes text[])
RETURNS void
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
BEGIN
    PERFORM 1 FROM tasker_tasks WHERE task_id = ANY (p_tasks) ORDER BY task_id FOR NO KEY UPDATE;
    UPDATE tasker_steps s
    SET progress = n.note::json
    FROM unnest(p_tasks, p_positions, p_attempts, p_notes) AS n (task_id, position, attempt, note)
    WHERE s.task_id = n.task_id AND s.position = n.position AND s.attempts = n.attempt
      AND s.worker = p_worker;
END $$;

-- Makes a definition known and gives its number. Safe to repeat, and to call from several nodes.
CREATE FUNCTION tasker_register_template(
    p_now timestamptz, p_hash bytea, p_namespace text, p_name text, p_version text, p_version_order bigint[],
    p_deadline_ms bigint, p_definition text, p_steps text[], p_queues text[], p_attempt_limits bigint[],
    p_parents int[], p_skippable boolean[], p_levels int[], p_edge_parents int[], p_edge_children int[],
    p_edge_ordinals int[], p_awaited int[], p_on_success int[], p_on_skip int[], p_on_failure int[],
    p_has_aftermath boolean)
RETURNS bigint
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    v_id bigint;
BEGIN
    SELECT template_id INTO v_id FROM tasker_templates WHERE content_hash = p_hash;
    IF FOUND THEN
        RETURN v_id;
    END IF;
    INSERT INTO tasker_templates (content_hash, namespace, name, version, version_order, deadline_ms, steps,
                                  roots, counts_ends, has_aftermath, definition, created_at)
    VALUES (p_hash, p_namespace, p_name, p_version, p_version_order, p_deadline_ms, cardinality(p_steps),
            cardinality(array_positions(p_parents, 0)), array_remove(p_awaited, NULL) <> '{}',
            p_has_aftermath, p_definition, coalesce(p_now, clock_timestamp()))
    ON CONFLICT (content_hash) DO NOTHING
    RETURNING template_id INTO v_id;
    IF NOT FOUND THEN
        -- Another node was faster, and has committed.
        SELECT template_id INTO v_id FROM tasker_templates WHERE content_hash = p_hash;
        RETURN v_id;
    END IF;
    INSERT INTO tasker_template_steps (template_id, position, name, queue, attempt_limit, parents, root,
                                       skippable, level, awaited)
    SELECT v_id, s.ordinal - 1, s.name, s.queue, s.attempt_limit, s.parents,
           CASE WHEN s.parents = 0 THEN count(*) FILTER (WHERE s.parents = 0) OVER (ORDER BY s.ordinal) END,
           s.skippable, s.level, s.awaited
    FROM unnest(p_steps, p_queues, p_attempt_limits, p_parents, p_skippable, p_levels, p_awaited)
        WITH ORDINALITY AS s (name, queue, attempt_limit, parents, skippable, level, awaited, ordinal);
    INSERT INTO tasker_template_edges (template_id, parent, child, ordinal, child_parents, child_queue, on_success,
                                       on_skip, on_failure)
    SELECT v_id, e.parent, e.child, e.ordinal, p_parents[e.child + 1], p_queues[e.child + 1],
           p_on_success[e.child + 1], p_on_skip[e.child + 1], p_on_failure[e.child + 1]
    FROM unnest(p_edge_parents, p_edge_children, p_edge_ordinals) AS e (parent, child, ordinal);
    RETURN v_id;
END $$;

-- Deletes up to p_limit finished tasks with all that belongs to them, in the order of their ids, which is
-- that of their creation. Ids are UUIDv7: those that were made after the limit need not be looked at (an
-- hour is left for clocks that disagree). Nobody waits: a task that somebody has locked is left. A sub-task is
-- kept for as long as the task that started it, and a task until its aftermath is seen to.
CREATE FUNCTION tasker_delete_finished(
    p_states text[], p_finished_before timestamptz, p_namespace text, p_after uuid, p_limit int,
    OUT deleted int, OUT last uuid)
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_tasks uuid[];
    v_end uuid := (lpad(to_hex(greatest(0, extract(epoch FROM p_finished_before + interval '1 hour') * 1000)::bigint), 12, '0')
                   || '7fff8fffffffffffffff')::uuid;
BEGIN
    SELECT array_agg(e.task_id ORDER BY e.task_id) INTO v_tasks
    FROM (SELECT t.task_id
          FROM tasker_tasks t
          JOIN tasker_templates p ON p.template_id = t.template_id
          WHERE t.task_id > p_after AND t.task_id < v_end AND t.finished_at < p_finished_before
            AND t.state = ANY (p_states) AND (p_namespace IS NULL OR p.namespace = p_namespace)
            AND t.aftermath_at IS NULL
            AND NOT EXISTS (SELECT FROM tasker_tasks o WHERE o.task_id = t.parent_task)
          ORDER BY t.task_id
          LIMIT p_limit
          FOR UPDATE OF t SKIP LOCKED) e;
    deleted := coalesce(cardinality(v_tasks), 0);
    last := v_tasks[deleted];
    PERFORM 1 FROM tasker_subtasks WHERE task_id = ANY (v_tasks) ORDER BY task_id, position FOR UPDATE;
    DELETE FROM tasker_subtasks WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_transitions WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_signals WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_annotations WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_steps WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_requests WHERE task_id = ANY (v_tasks);
    DELETE FROM tasker_tasks WHERE task_id = ANY (v_tasks);
END $$;

-- Sends a signal: what waits for it is due, and what will wait finds it. The first of a name counts. Gives
-- delivered, kept or known, the state of a task that is final, or null if there is no such task.
CREATE FUNCTION tasker_signal(p_now timestamptz, p_task uuid, p_name text, p_payload text, p_by text)
RETURNS text
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_state text;
    v_now timestamptz;
BEGIN
    SELECT state INTO v_state FROM tasker_tasks WHERE task_id = p_task FOR NO KEY UPDATE;
    IF v_state IS NULL OR v_state NOT IN ('pending', 'in_progress') THEN
        RETURN v_state;
    END IF;
    v_now := coalesce(p_now, clock_timestamp());
    INSERT INTO tasker_signals (task_id, name, payload, sent_by, at)
    VALUES (p_task, p_name, p_payload::json, p_by, v_now)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'known';
    END IF;
    UPDATE tasker_steps
    SET signal = p_payload::json, awaits = NULL, due_at = v_now
    WHERE task_id = p_task AND awaits = p_name AND state = 'pending' AND due_at IS NOT NULL;
    RETURN CASE WHEN FOUND THEN 'delivered' ELSE 'kept' END;
END $$;
