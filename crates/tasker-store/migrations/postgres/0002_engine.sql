-- The verbs of the engine, each one call and thereby one transaction and one round trip.
--
-- Functions, so that their plans are kept by the server and no session state is needed: a call is
-- one unnamed statement that any connection of a pooler may run. The settings make the plans
-- independent of statistics: every look at a large table is by index, whatever the planner believes
-- to know about tables that grow by the minute.
--
-- Conventions: p_ are parameters, v_ variables. p_now is the time given by a test's clock; null
-- means the clock of this database, which is what decides everywhere else. It is read after the
-- locks are taken. Steps are moved only by tasker_apply, which alone writes transitions and the
-- task's row.

-- One change of state of a step, with what it changes in the counts of its task.
CREATE TYPE tasker_move AS (
    task_id    uuid,
    position   int,
    from_state text,
    to_state   text,
    attempt    int,
    worker     uuid,
    reason     text,
    duration   bigint,
    failure    json,
    retry_at   timestamptz,
    opened     int,
    done       int,
    failed     int
);

-- What a verb answers: one row of kind summary, and one per claimed step and finished task.
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
    left_due      boolean
);

-- Records moves: appends transitions, changes the counts of the tasks, starts tasks whose first step
-- was claimed, finishes those of which nothing is open any more. A move from a state to itself changes
-- only the counts. The tasks are locked by the caller.
CREATE FUNCTION tasker_apply(p_moves tasker_move[], p_now timestamptz) RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH moved AS MATERIALIZED (
        SELECT m.*, t.state AS old_state, t.transitions AS old_transitions, t.total_steps,
               t.cancelled_steps, row_number() OVER of_task AS nth,
               count(*) FILTER (WHERE m.from_state <> m.to_state) OVER of_task AS number,
               count(*) FILTER (WHERE m.from_state <> m.to_state) OVER task AS moves,
               t.done_steps + sum(m.done) OVER task AS done_now,
               t.open_steps + sum(m.opened) OVER task AS open_now,
               t.failed_steps + sum(m.failed) OVER task AS failed_now,
               t.state = 'pending' AND bool_or(m.to_state = 'in_progress') OVER task AS starts
        FROM unnest(p_moves) WITH ORDINALITY AS m (task_id, position, from_state, to_state, attempt,
            worker, reason, duration, failure, retry_at, opened, done, failed, ordinal)
        JOIN tasker_tasks t ON t.task_id = m.task_id
        WINDOW task AS (PARTITION BY m.task_id),
               of_task AS (PARTITION BY m.task_id ORDER BY m.ordinal)
    ), rolled_up AS (
        SELECT *, CASE
                   WHEN old_state NOT IN ('pending', 'in_progress') THEN old_state
                   WHEN open_now > 0 AND starts THEN 'in_progress'
                   WHEN open_now > 0 THEN old_state
                   WHEN done_now = total_steps THEN 'complete'
                   WHEN failed_now > 0 THEN 'error'
                   ELSE 'cancelled'
               END AS new_state
        FROM moved
    ), decided AS MATERIALIZED (
        SELECT *, old_state IN ('pending', 'in_progress')
                  AND new_state NOT IN ('pending', 'in_progress') AS finishes
        FROM rolled_up
    ), counted AS (
        UPDATE tasker_tasks t
        SET state = d.new_state, done_steps = d.done_now, open_steps = d.open_now,
            failed_steps = d.failed_now,
            transitions = d.old_transitions + d.moves + d.starts::int + d.finishes::int,
            finished_at = CASE WHEN d.finishes THEN p_now ELSE t.finished_at END,
            deadline_at = CASE WHEN NOT d.finishes THEN t.deadline_at END
        FROM decided d
        WHERE d.nth = 1 AND t.task_id = d.task_id
    ), recorded AS (
        INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                        worker, reason, duration, failure, retry_at)
        SELECT task_id, old_transitions + starts::int + number, position, from_state, to_state, p_now,
               attempt, worker, reason, duration, failure, retry_at
        FROM decided
        WHERE from_state <> to_state
        UNION ALL
        SELECT task_id, old_transitions + 1, NULL, 'pending', 'in_progress', p_now,
               NULL, NULL, NULL, NULL, NULL, NULL
        FROM decided
        WHERE nth = 1 AND starts
        UNION ALL
        SELECT task_id, old_transitions + starts::int + moves + 1, NULL,
               CASE WHEN starts THEN 'in_progress' ELSE old_state END, new_state, p_now,
               NULL, NULL, NULL, NULL, NULL, NULL
        FROM decided
        WHERE nth = 1 AND finishes
    )
    SELECT 'finished', task_id, NULL::int, NULL::int, NULL::bigint, NULL::bigint, new_state, NULL::text,
           NULL::text[], NULL::int[], NULL::timestamptz, NULL::timestamptz, NULL::boolean
    FROM decided
    WHERE nth = 1 AND finishes;
END $$;

-- What the handlers of claimed steps need: the task's context and the parents' results, in the order
-- in which the step names its parents.
CREATE FUNCTION tasker_inputs(p_tasks uuid[], p_positions int[]) RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT 'claimed', c.task_id, c.position, s.attempts, s.attempt_limit, s.template_id, NULL::text,
           r.context::text,
           (SELECT array_agg(p.result::text ORDER BY e.ordinal)
            FROM tasker_template_edges e
            JOIN tasker_steps p ON p.task_id = c.task_id AND p.position = e.parent
            WHERE e.template_id = s.template_id AND e.child = c.position),
           NULL::int[], NULL::timestamptz, NULL::timestamptz, NULL::boolean
    FROM unnest(p_tasks, p_positions) WITH ORDINALITY AS c (task_id, position, ordinal)
    JOIN tasker_steps s ON s.task_id = c.task_id AND s.position = c.position
    JOIN tasker_requests r ON r.task_id = c.task_id
    ORDER BY c.ordinal;
END $$;

-- Takes steps that are due, oldest first, of tasks that nobody else has locked.
--
-- What is due is found by the index and its tasks are locked at once; the rows are read again under
-- the lock, since they may have changed in between. p_due_after and p_leased_after say up to where
-- nothing was left by an earlier look: the remains of steps that were taken since stand there until
-- they are vacuumed, and a look need not walk over them.
CREATE FUNCTION tasker_take_due(
    p_now timestamptz, p_worker uuid, p_lease interval, p_slots int, p_queues text[],
    p_templates bigint[], p_due_after timestamptz, p_leased_after timestamptz,
    OUT moves tasker_move[], OUT tasks uuid[], OUT positions int[], OUT left_due boolean,
    OUT reached timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    v_tasks uuid[];
    v_positions int[];
    v_ranks timestamptz[];
    v_expired boolean;
    v_lost tasker_move[];
    v_moves tasker_move[];
    v_slots int := p_slots;
    v_limited text[];
    v_room int[];
    v_due_after timestamptz := coalesce(p_due_after, '-infinity');
    v_leased_after timestamptz := coalesce(p_leased_after, '-infinity');
BEGIN
    -- The row of a limited queue is the lock of its count: one look at a time, and none waits for it
    -- while it holds something that another needs first.
    PERFORM 1 FROM tasker_queues WHERE queue = ANY (p_queues) ORDER BY queue FOR UPDATE;
    IF FOUND THEN
        SELECT array_agg(q.queue), array_agg(greatest(0, q.concurrency_limit - (
            SELECT count(*)::int
            FROM tasker_steps s
            WHERE s.queue = q.queue AND s.state = 'in_progress' AND s.due_at > p_now)))
        INTO v_limited, v_room
        FROM tasker_queues q
        WHERE q.queue = ANY (p_queues);
    END IF;
    LOOP
        v_lost := NULL;
        SELECT array_agg(f.task_id ORDER BY f.rank, f.task_id, f.position),
               array_agg(f.position ORDER BY f.rank, f.task_id, f.position),
               array_agg(f.rank ORDER BY f.rank, f.task_id, f.position),
               bool_or(f.expired)
        INTO v_tasks, v_positions, v_ranks, v_expired
        FROM (
            SELECT *, row_number() OVER (PARTITION BY queue ORDER BY rank, task_id, position) AS in_queue
            FROM (
                SELECT r.queue, d.*, false AS expired
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, s.due_at AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at > v_due_after AND s.due_at <= p_now AND s.state <> 'in_progress'
                      AND s.priority = 0
                    ORDER BY s.due_at
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
                UNION ALL
                SELECT r.queue, d.*, false
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, tasker_rank(s.due_at, s.priority) AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at <= p_now AND s.due_at IS NOT NULL AND s.state <> 'in_progress'
                      AND s.priority <> 0
                    ORDER BY tasker_rank(s.due_at, s.priority)
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
                UNION ALL
                SELECT r.queue, d.*, true
                FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                CROSS JOIN LATERAL (
                    SELECT s.task_id, s.position, s.due_at AS rank
                    FROM tasker_steps s
                    JOIN tasker_tasks t ON t.task_id = s.task_id
                    WHERE s.queue = r.queue AND s.template_id = r.template_id
                      AND s.due_at > v_leased_after AND s.due_at <= p_now AND s.state = 'in_progress'
                    ORDER BY s.due_at
                    LIMIT v_slots
                    FOR NO KEY UPDATE OF t SKIP LOCKED) d
            ) found
            ORDER BY rank, task_id, position
        ) f
        WHERE v_limited IS NULL OR f.in_queue <= coalesce(v_room[array_position(v_limited, f.queue)], v_slots);
        -- More than there are slots for: what is left over goes to the next look.
        left_due := coalesce(cardinality(v_tasks), 0) >= v_slots;
        reached := CASE WHEN left_due THEN v_ranks[v_slots] ELSE p_now END;
        v_tasks := v_tasks[1:v_slots];
        v_positions := v_positions[1:v_slots];
        EXIT WHEN v_tasks IS NULL;
        IF v_expired THEN
            -- The rules of a lost worker (lease.rs): after the third, or without an attempt left, the
            -- step fails instead of running again.
            WITH given_up AS (
                UPDATE tasker_steps s
                SET state = 'error', lost_attempts = s.lost_attempts + 1, worker = NULL, due_at = NULL,
                    failure = CASE WHEN o.lost_attempts + 1 >= 3 THEN 'quarantined' ELSE 'lost' END,
                    finished_at = p_now
                FROM unnest(v_tasks, v_positions) WITH ORDINALITY AS f (task_id, position, ordinal)
                JOIN tasker_steps o ON o.task_id = f.task_id AND o.position = f.position
                WHERE o.state = 'in_progress' AND o.due_at <= p_now
                  AND (o.lost_attempts + 1 >= 3 OR o.attempts >= o.attempt_limit)
                  AND s.task_id = o.task_id AND s.position = o.position
                RETURNING f.ordinal, s.task_id, s.position, s.attempts, s.attempt_limit, o.worker, s.failure
            )
            SELECT array_agg(ROW(task_id, position, 'in_progress', 'error', attempts, worker, 'lease_lost',
                       NULL, json_build_object('kind', failure, 'message', CASE failure
                           WHEN 'quarantined' THEN '3 workers vanished while they ran this step; '
                               || 'retry it once the cause is known'
                           ELSE format('the worker vanished during attempt %s of %s', attempts, attempt_limit)
                       END), NULL, -1, 0, 1)::tasker_move ORDER BY ordinal)
            INTO v_lost
            FROM given_up;
        END IF;
        WITH taken AS (
            UPDATE tasker_steps s
            SET state = 'in_progress', attempts = s.attempts + 1, worker = p_worker, due_at = p_now + p_lease,
                lost_attempts = s.lost_attempts + (o.state = 'in_progress')::int, started_at = p_now,
                finished_at = NULL
            FROM unnest(v_tasks, v_positions) WITH ORDINALITY AS f (task_id, position, ordinal)
            JOIN tasker_steps o ON o.task_id = f.task_id AND o.position = f.position
            WHERE o.due_at <= p_now AND s.task_id = o.task_id AND s.position = o.position
            RETURNING f.ordinal, s.task_id, s.position, s.attempts, o.state, o.worker
        ), in_order AS (
            SELECT ordinal, 1 AS nth, task_id, position, state AS from_state, 'pending' AS to_state,
                   attempts - (state = 'in_progress')::int AS attempt, worker,
                   CASE state WHEN 'error' THEN 'retry' ELSE 'lease_lost' END AS reason
            FROM taken
            WHERE state <> 'pending'
            UNION ALL
            SELECT ordinal, 2, task_id, position, 'pending', 'in_progress', attempts, p_worker, NULL
            FROM taken
        )
        SELECT array_agg(ROW(task_id, position, from_state, to_state, attempt, worker, reason,
                             NULL, NULL, NULL, 0, 0, 0)::tasker_move ORDER BY ordinal, nth),
               array_agg(task_id ORDER BY ordinal) FILTER (WHERE nth = 2),
               array_agg(position ORDER BY ordinal) FILTER (WHERE nth = 2)
        INTO v_moves, v_tasks, v_positions
        FROM in_order;
        moves := moves || v_lost || v_moves;
        tasks := tasks || v_tasks;
        positions := positions || v_positions;
        v_slots := v_slots - coalesce(cardinality(v_tasks), 0);
        -- Another round only if some of these failed instead of taking up a slot.
        EXIT WHEN v_lost IS NULL OR v_slots = 0;
    END LOOP;
END $$;

-- Fails every open step of tasks whose deadline has passed; running attempts lose their lease.
CREATE FUNCTION tasker_past_deadline(p_now timestamptz) RETURNS tasker_move[]
LANGUAGE plpgsql AS $$
DECLARE
    v_late uuid[];
    v_moves tasker_move[];
    v_failure json := json_build_object('kind', 'deadline_exceeded',
                                        'message', 'the deadline of the task has passed');
BEGIN
    SELECT array_agg(l.task_id) INTO v_late
    FROM (SELECT task_id
          FROM tasker_tasks
          WHERE deadline_at <= p_now
          ORDER BY deadline_at
          LIMIT 100
          FOR NO KEY UPDATE SKIP LOCKED) l;
    IF v_late IS NULL THEN
        RETURN NULL;
    END IF;
    WITH ended AS (
        UPDATE tasker_steps s
        SET state = 'error', failure = 'deadline_exceeded', due_at = NULL, worker = NULL,
            finished_at = p_now
        FROM tasker_steps o
        WHERE o.task_id = ANY (v_late) AND o.due_at IS NOT NULL
          AND s.task_id = o.task_id AND s.position = o.position
        RETURNING s.task_id, s.position, s.attempts, o.state, o.worker
    )
    -- A step that waits for its retry has failed already: it only stops waiting, which is no move of
    -- its own but changes the counts.
    SELECT array_agg(ROW(task_id, position, state, 'error', nullif(attempts, 0), worker,
                         'deadline_exceeded', NULL, v_failure, NULL, -1, 0, 1)::tasker_move
                     ORDER BY task_id, position)
    INTO v_moves
    FROM ended;
    RETURN v_moves;
END $$;

-- Creates tasks with their steps and first transitions, and hands roots over where there are slots.
--
-- The arrays have one element per task. p_bypass holds JSON arrays of names. Answers name the tasks
-- that were not created: word is existing or duplicate, task_id the task that is meant, and numbers
-- its place from 1. A task whose template the database does not know is left out without an answer.
CREATE FUNCTION tasker_create(
    p_now timestamptz, p_ids uuid[], p_template_ids bigint[], p_contexts text[], p_initiators text[],
    p_source_systems text[], p_reasons text[], p_tags text[], p_bypass text[],
    p_requested_at timestamptz[], p_keys text[], p_identities text[], p_since timestamptz[],
    p_priorities int[], p_start_at timestamptz[], p_worker uuid, p_lease_ms bigint, p_slots int,
    p_queues text[], p_runnable bigint[])
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now timestamptz;
    v_lease interval := make_interval(secs => p_lease_ms / 1000.0);
    v_known uuid[];
    v_words text[];
    v_new uuid[];
    v_all_new boolean;
BEGIN
    IF array_remove(p_keys, NULL) <> '{}' OR array_remove(p_identities, NULL) <> '{}' THEN
        -- Equal requests wait for each other here, in one order; then one statement sees them all.
        PERFORM pg_advisory_xact_lock(l.lock)
        FROM (SELECT DISTINCT hashtextextended(text, 0) AS lock
              FROM (SELECT unnest(p_keys) UNION ALL SELECT unnest(p_identities)) AS equal (text)
              WHERE text IS NOT NULL
              ORDER BY 1) l;
        v_now := coalesce(p_now, clock_timestamp());
        SELECT array_agg(coalesce(e.by_key, e.by_identity) ORDER BY e.ordinal),
               array_agg(CASE WHEN e.by_key IS NOT NULL OR e.by_identity = e.task_id THEN 'existing'
                              WHEN e.by_identity IS NOT NULL THEN 'duplicate' END ORDER BY e.ordinal)
        INTO v_known, v_words
        FROM (
            SELECT i.ordinal, i.task_id,
                   coalesce((SELECT r.task_id FROM tasker_requests r WHERE r.idempotency_key = i.key),
                            nullif(first_value(i.task_id) OVER (PARTITION BY i.key ORDER BY i.ordinal),
                                   CASE WHEN i.key IS NULL
                                       THEN first_value(i.task_id) OVER (PARTITION BY i.key ORDER BY i.ordinal)
                                       ELSE i.task_id END)) AS by_key,
                   coalesce((SELECT r.task_id
                             FROM tasker_requests r
                             WHERE r.identity = i.identity
                               AND r.requested_at > coalesce(i.since, '-infinity')
                             LIMIT 1),
                            nullif(first_value(i.task_id) OVER (PARTITION BY i.identity ORDER BY i.ordinal),
                                   CASE WHEN i.identity IS NULL
                                       THEN first_value(i.task_id) OVER (PARTITION BY i.identity ORDER BY i.ordinal)
                                       ELSE i.task_id END)) AS by_identity
            FROM unnest(p_ids, p_keys, p_identities, p_since) WITH ORDINALITY
                AS i (task_id, key, identity, since, ordinal)
        ) e;
    END IF;
    v_now := coalesce(p_now, v_now, clock_timestamp());

    WITH requested AS (
        INSERT INTO tasker_requests (task_id, context, initiator, source_system, reason, tags,
                                     bypass_steps, requested_at, idempotency_key, identity)
        SELECT i.task_id, i.context::json, i.initiator, i.source_system, i.reason, i.tags::json,
               i.bypass::json, coalesce(i.requested_at, v_now), i.key, i.identity
        FROM unnest(p_ids, p_contexts, p_initiators, p_source_systems, p_reasons, p_tags, p_bypass,
                    p_requested_at, p_keys, p_identities) WITH ORDINALITY
            AS i (task_id, context, initiator, source_system, reason, tags, bypass, requested_at, key,
                  identity, ordinal)
        WHERE v_known IS NULL OR v_known[i.ordinal] IS NULL
        -- Nothing is inserted if the id exists: the create was repeated after a lost answer.
        ON CONFLICT (task_id) DO NOTHING
        RETURNING task_id
    )
    SELECT array_agg(task_id) INTO v_new FROM requested;

    v_all_new := cardinality(v_new) = cardinality(p_ids);
    IF v_all_new IS NOT TRUE THEN
        RETURN QUERY
        SELECT 'created', coalesce(v_known[i.ordinal], i.task_id), NULL::int, NULL::int, NULL::bigint,
               NULL::bigint, coalesce(v_words[i.ordinal], 'existing'), NULL::text, NULL::text[],
               ARRAY[i.ordinal::int], NULL::timestamptz, NULL::timestamptz, NULL::boolean
        FROM unnest(p_ids) WITH ORDINALITY AS i (task_id, ordinal)
        WHERE NOT EXISTS (SELECT FROM unnest(v_new) AS n (task_id) WHERE n.task_id = i.task_id);
    END IF;

    RETURN QUERY
    WITH planned AS (
        SELECT i.ordinal, i.task_id, i.template_id, i.priority, t.deadline_ms, s.position, s.name, s.queue,
               s.attempt_limit, greatest(i.start_at, v_now) AS start_at,
               i.bypass <> '[]' AND s.name IN (SELECT json_array_elements_text(i.bypass::json)) AS bypassed,
               CASE WHEN i.bypass = '[]' THEN s.parents ELSE (
                   SELECT count(*)::int
                   FROM tasker_template_edges e
                   JOIN tasker_template_steps p ON p.template_id = e.template_id AND p.position = e.parent
                   WHERE e.template_id = i.template_id AND e.child = s.position
                     AND p.name NOT IN (SELECT json_array_elements_text(i.bypass::json)))
               END AS unfinished_parents
        FROM unnest(p_ids, p_template_ids, p_bypass, p_priorities, p_start_at) WITH ORDINALITY
            AS i (task_id, template_id, bypass, priority, start_at, ordinal)
        JOIN tasker_templates t ON t.template_id = i.template_id
        JOIN tasker_template_steps s ON s.template_id = i.template_id
        WHERE v_all_new OR i.task_id = ANY (v_new)
    ), rooted AS (
        SELECT *, NOT bypassed AND unfinished_parents = 0 AS root,
               NOT bypassed AND unfinished_parents = 0 AND p_slots > 0 AND start_at <= v_now
               AND EXISTS (SELECT FROM unnest(p_queues, p_runnable) AS r (queue, template_id)
                           WHERE r.queue = planned.queue AND r.template_id = planned.template_id)
               AND NOT EXISTS (SELECT FROM tasker_queues q WHERE q.queue = planned.queue) AS mine
        FROM planned
    ), shared_out AS (
        SELECT *, mine AND count(*) FILTER (WHERE mine) OVER (ORDER BY ordinal, position) <= p_slots AS taken
        FROM rooted
    ), steps AS MATERIALIZED (
        SELECT *, row_number() OVER in_order AS nth, count(*) OVER task AS total,
               count(*) FILTER (WHERE bypassed) OVER in_order AS skips_so_far,
               count(*) FILTER (WHERE bypassed) OVER task AS skips,
               count(*) FILTER (WHERE root) OVER task AS roots,
               count(*) FILTER (WHERE taken) OVER in_order AS takes_so_far,
               count(*) FILTER (WHERE taken) OVER task AS takes
        FROM shared_out
        WINDOW task AS (PARTITION BY ordinal), in_order AS (PARTITION BY ordinal ORDER BY position)
    ), new_tasks AS (
        INSERT INTO tasker_tasks (task_id, template_id, state, total_steps, done_steps, open_steps,
                                  failed_steps, cancelled_steps, transitions, created_at, finished_at,
                                  deadline_at)
        SELECT task_id, template_id,
               CASE WHEN roots = 0 THEN 'complete' WHEN takes > 0 THEN 'in_progress' ELSE 'pending' END,
               total, skips, roots, 0, 0,
               1 + total + skips + takes + (takes > 0)::int + 2 * (roots = 0)::int, v_now,
               CASE WHEN roots = 0 THEN v_now END,
               CASE WHEN roots > 0 THEN v_now + make_interval(secs => deadline_ms / 1000.0) END
        FROM steps
        WHERE nth = 1
    ), new_steps AS (
        INSERT INTO tasker_steps (task_id, position, attempts, attempt_limit, lost_attempts,
                                  unfinished_parents, priority, template_id, due_at, started_at, worker,
                                  state, queue, name)
        SELECT task_id, position, taken::int, attempt_limit, 0, unfinished_parents, priority, template_id,
               CASE WHEN taken THEN v_now + v_lease WHEN root THEN start_at END,
               CASE WHEN taken THEN v_now END, CASE WHEN taken THEN p_worker END,
               CASE WHEN bypassed THEN 'skipped' WHEN taken THEN 'in_progress' ELSE 'pending' END, queue, name
        FROM steps
    ), recorded AS (
        INSERT INTO tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                        worker, reason)
        SELECT task_id, 1, NULL::int, NULL::text, 'pending', v_now, NULL::int, NULL::uuid, NULL::text
        FROM steps
        WHERE nth = 1
        UNION ALL
        SELECT task_id, 1 + nth + skips_so_far - bypassed::int, position, NULL, 'pending', v_now, NULL, NULL,
               NULL
        FROM steps
        UNION ALL
        SELECT task_id, 1 + nth + skips_so_far, position, 'pending', 'skipped', v_now, NULL, NULL, 'bypassed'
        FROM steps
        WHERE bypassed
        UNION ALL
        SELECT task_id, 2 + total + skips, NULL, 'pending', 'in_progress', v_now, NULL, NULL, NULL
        FROM steps
        WHERE nth = 1 AND (takes > 0 OR roots = 0)
        UNION ALL
        SELECT task_id, 3 + total + skips, NULL, 'in_progress', 'complete', v_now, NULL, NULL, NULL
        FROM steps
        WHERE nth = 1 AND roots = 0
        UNION ALL
        SELECT task_id, 2 + total + skips + takes_so_far, position, 'pending', 'in_progress', v_now, 1,
               p_worker, NULL
        FROM steps
        WHERE taken
    )
    SELECT a.kind, a.task_id, a.position, 1, a.attempt_limit, a.template_id, a.word, NULL::text,
           NULL::text[], ARRAY[a.ordinal::int], NULL::timestamptz, a.start_at, a.roots > a.takes
    FROM (
        SELECT 'claimed' AS kind, * , NULL::text AS word FROM steps WHERE taken
        UNION ALL
        SELECT 'finished', *, 'complete' FROM steps WHERE nth = 1 AND roots = 0
        UNION ALL
        -- The first step of each task that has roots for others.
        SELECT 'left', *, NULL FROM steps WHERE nth = 1 AND roots > takes
    ) a
    ORDER BY a.ordinal, a.position;
    RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, v_now, NULL,
                    NULL)::tasker_answer;
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
    v_late tasker_move[] := tasker_past_deadline(v_now);
    v_found record;
    v_next timestamptz;
BEGIN
    IF v_late IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker_apply(v_late, v_now);
    END IF;
    v_found := tasker_take_due(v_now, p_worker, make_interval(secs => p_lease_ms / 1000.0), p_slots,
        p_queues, p_templates, p_due_after, p_leased_after);
    IF v_found.moves IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker_apply(v_found.moves, v_now);
        RETURN QUERY SELECT * FROM tasker_inputs(v_found.tasks, v_found.positions);
    END IF;
    IF coalesce(cardinality(v_found.tasks), 0) < p_slots THEN
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
                      AND s.due_at > coalesce(p_due_after, '-infinity') AND s.due_at <= v_now AND s.state <> 'in_progress'
                    LIMIT 1) d
                WHERE NOT EXISTS (SELECT FROM tasker_queues q WHERE q.queue = r.queue))
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
    IF v_found.left_due THEN
        -- Up to where nothing was left.
        v_next := v_found.reached;
    END IF;
    RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, v_now, v_next,
                    v_found.left_due)::tasker_answer;
END $$;

-- Records the ends of attempts, makes children due or hands them over, and takes what is due.
--
-- The arrays have one element per completion. p_ends: complete, error or pending (handed back).
-- p_delays_ms: when to try again after a failure; null if for good. p_limited: the failure may be
-- tried again, but the worker believes that no attempt is left; the limit may have been raised
-- meanwhile. p_slots is 0 without a budget. p_also_due: look for steps that were due before, too.
CREATE FUNCTION tasker_complete(
    p_now timestamptz, p_worker uuid, p_tasks uuid[], p_positions int[], p_attempts int[], p_ends text[],
    p_delays_ms bigint[], p_limited boolean[], p_kinds text[], p_failures text[], p_results text[],
    p_lease_ms bigint, p_slots int, p_queues text[], p_templates bigint[], p_also_due boolean,
    p_due_after timestamptz, p_leased_after timestamptz)
RETURNS SETOF tasker_answer
LANGUAGE plpgsql
SET search_path FROM CURRENT
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    v_now timestamptz;
    v_lease interval := make_interval(secs => p_lease_ms / 1000.0);
    v_moves tasker_move[];
    v_recorded int[];
    v_done_tasks uuid[];
    v_done_positions int[];
    v_done_templates bigint[];
    v_children tasker_move[];
    v_tasks uuid[] := '{}';
    v_positions int[] := '{}';
    v_left_due boolean := false;
    v_made_due boolean;
    v_slots int := p_slots;
    v_found record;
BEGIN
    PERFORM 1 FROM tasker_tasks WHERE task_id = ANY (p_tasks) ORDER BY task_id FOR NO KEY UPDATE;
    v_now := coalesce(p_now, clock_timestamp());

    -- Only the attempt that holds the lease: everybody else changes nothing.
    WITH ended AS (
        UPDATE tasker_steps s
        SET state = c.state, worker = NULL, finished_at = v_now, failure = c.kind, result = c.result::json,
            attempts = s.attempts - (c.state = 'pending')::int,
            due_at = CASE
                WHEN c.state = 'pending' OR (c.limited AND s.attempts < s.attempt_limit) THEN v_now
                ELSE v_now + make_interval(secs => c.delay_ms / 1000.0)
            END
        FROM unnest(p_tasks, p_positions, p_attempts, p_ends, p_delays_ms, p_limited, p_kinds, p_failures,
                    p_results) WITH ORDINALITY AS c (task_id, position, attempt, state, delay_ms, limited,
                                                     kind, failure, result, ordinal)
        WHERE s.task_id = c.task_id AND s.position = c.position AND s.attempts = c.attempt
          AND s.worker = p_worker AND s.state = 'in_progress'
        RETURNING c.ordinal::int AS ordinal, c.attempt, c.failure, s.task_id, s.position, s.template_id,
                  s.state, s.due_at, s.started_at
    )
    SELECT array_agg(ROW(task_id, position, 'in_progress', state, attempt, p_worker,
                         CASE state WHEN 'pending' THEN 'handed_back' END,
                         CASE WHEN state <> 'pending' THEN
                             greatest(0, round(extract(epoch FROM v_now - started_at) * 1000000))::bigint END,
                         failure::json, CASE state WHEN 'error' THEN due_at END,
                         -(due_at IS NULL)::int, (state = 'complete')::int,
                         (state = 'error' AND due_at IS NULL)::int)::tasker_move ORDER BY ordinal),
           array_agg(ordinal ORDER BY ordinal),
           array_agg(task_id ORDER BY ordinal) FILTER (WHERE state = 'complete'),
           array_agg(position ORDER BY ordinal) FILTER (WHERE state = 'complete'),
           array_agg(template_id ORDER BY ordinal) FILTER (WHERE state = 'complete'),
           bool_or(state = 'pending')
    INTO v_moves, v_recorded, v_done_tasks, v_done_positions, v_done_templates, v_left_due
    FROM ended;

    IF v_done_tasks IS NOT NULL THEN
        WITH finished AS (
            SELECT d.task_id, e.child, count(*)::int AS parents
            FROM unnest(v_done_tasks, v_done_positions, v_done_templates) AS d (task_id, position, template_id)
            JOIN tasker_template_edges e ON e.template_id = d.template_id AND e.parent = d.position
            GROUP BY d.task_id, e.child
        ), counted AS (
            SELECT f.*, c.state = 'pending' AND c.unfinished_parents = f.parents AS ready,
                   p_slots > 0 AND c.state = 'pending' AND c.unfinished_parents = f.parents
                   AND EXISTS (SELECT FROM unnest(p_queues, p_templates) AS r (queue, template_id)
                               WHERE r.queue = c.queue AND r.template_id = c.template_id)
                   AND NOT EXISTS (SELECT FROM tasker_queues q WHERE q.queue = c.queue) AS mine
            FROM finished f
            JOIN tasker_steps c ON c.task_id = f.task_id AND c.position = f.child
        ), shared_out AS (
            SELECT *, mine AND count(*) FILTER (WHERE mine) OVER (ORDER BY task_id, child) <= p_slots AS taken
            FROM counted
        ), children AS (
            UPDATE tasker_steps c
            SET unfinished_parents = c.unfinished_parents - o.parents,
                due_at = CASE WHEN o.taken THEN v_now + v_lease WHEN o.ready THEN v_now ELSE c.due_at END,
                state = CASE WHEN o.taken THEN 'in_progress' ELSE c.state END,
                attempts = c.attempts + o.taken::int,
                worker = CASE WHEN o.taken THEN p_worker ELSE c.worker END,
                started_at = CASE WHEN o.taken THEN v_now ELSE c.started_at END
            FROM shared_out o
            WHERE c.task_id = o.task_id AND c.position = o.child
            RETURNING c.task_id, c.position, c.attempts, o.taken, o.ready
        )
        SELECT array_agg(ROW(task_id, position, 'pending', CASE WHEN taken THEN 'in_progress' ELSE 'pending' END,
                             attempts, p_worker, NULL, NULL, NULL, NULL, 1, 0, 0)::tasker_move
                         ORDER BY task_id, position),
               array_agg(task_id ORDER BY task_id, position) FILTER (WHERE taken),
               array_agg(position ORDER BY task_id, position) FILTER (WHERE taken),
               bool_or(NOT taken)
        INTO v_children, v_tasks, v_positions, v_made_due
        FROM children
        WHERE ready;
        v_moves := v_moves || v_children;
        v_left_due := v_left_due OR coalesce(v_made_due, false);
        v_slots := p_slots - coalesce(cardinality(v_tasks), 0);
    END IF;

    IF p_also_due AND v_slots > 0 THEN
        v_found := tasker_take_due(v_now, p_worker, v_lease, v_slots, p_queues, p_templates, p_due_after,
                                   p_leased_after);
        v_moves := v_moves || v_found.moves;
        v_tasks := v_tasks || v_found.tasks;
        v_positions := v_positions || v_found.positions;
        v_left_due := v_found.left_due;
    ELSIF p_also_due THEN
        -- Without a slot nobody looks, so nobody knows: whoever asked must ask again.
        v_left_due := true;
    END IF;

    IF v_moves IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker_apply(v_moves, v_now);
    END IF;
    IF v_tasks IS NOT NULL THEN
        RETURN QUERY SELECT * FROM tasker_inputs(v_tasks, v_positions);
    END IF;
    RETURN NEXT ROW('summary', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, v_recorded, v_now, NULL,
                    coalesce(v_left_due, false))::tasker_answer;
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
          AND s.worker = p_worker AND s.state = 'in_progress'
        RETURNING l.ordinal::int AS ordinal
    )
    SELECT array_agg(ordinal) INTO v_held FROM held;
    RETURN coalesce(v_held, '{}');
END $$;

-- Makes a definition known and gives its number. Safe to repeat, and to call from several nodes.
CREATE FUNCTION tasker_register_template(
    p_now timestamptz, p_hash bytea, p_namespace text, p_name text, p_version text, p_version_order bigint[],
    p_deadline_ms bigint, p_definition text, p_steps text[], p_queues text[], p_attempt_limits bigint[],
    p_parents int[], p_skippable boolean[], p_levels int[], p_edge_parents int[], p_edge_children int[],
    p_edge_ordinals int[])
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
    INSERT INTO tasker_templates (content_hash, namespace, name, version, version_order, deadline_ms,
                                  definition, created_at)
    VALUES (p_hash, p_namespace, p_name, p_version, p_version_order, p_deadline_ms, p_definition,
            coalesce(p_now, clock_timestamp()))
    ON CONFLICT (content_hash) DO NOTHING
    RETURNING template_id INTO v_id;
    IF NOT FOUND THEN
        -- Another node was faster, and has committed.
        SELECT template_id INTO v_id FROM tasker_templates WHERE content_hash = p_hash;
        RETURN v_id;
    END IF;
    INSERT INTO tasker_template_steps (template_id, position, name, queue, attempt_limit, parents, skippable,
                                       level)
    SELECT v_id, s.ordinal - 1, s.name, s.queue, s.attempt_limit, s.parents, s.skippable, s.level
    FROM unnest(p_steps, p_queues, p_attempt_limits, p_parents, p_skippable, p_levels) WITH ORDINALITY
        AS s (name, queue, attempt_limit, parents, skippable, level, ordinal);
    INSERT INTO tasker_template_edges (template_id, parent, child, ordinal)
    SELECT v_id, e.parent, e.child, e.ordinal
    FROM unnest(p_edge_parents, p_edge_children, p_edge_ordinals) AS e (parent, child, ordinal);
    RETURN v_id;
END $$;
