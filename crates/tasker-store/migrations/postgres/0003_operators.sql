-- What operators ask: functions that read and change nothing, and one view. docs/SQL_FUNCTIONS.md tells
-- what each column means.
--
-- A task is a uuid, a step is a task and a position from 0. The last parameter, now, is the time for which
-- a question is answered. What a step waits for is decided once, in tasker_readiness, by the rule that
-- claims follow; a limit on its queue is not looked at. Every function keeps the schema that it was
-- created in, whatever the caller's search_path.

-- May a step run? The words and the rule of readiness.rs.
CREATE FUNCTION tasker_readiness(state text, due_at timestamptz, unfinished_parents int, now timestamptz)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN $1 IN ('complete', 'resolved_manually', 'skipped') THEN 'done'
        WHEN $1 = 'cancelled' THEN 'cancelled'
        WHEN $1 = 'pending' AND $2 IS NULL AND $3 > 0 THEN 'waiting_for_parents'
        WHEN $2 IS NULL THEN 'blocked'
        WHEN $1 = 'in_progress' AND $2 <= $4 THEN 'lease_expired'
        WHEN $1 = 'in_progress' THEN 'running'
        WHEN $2 <= $4 THEN 'ready'
        ELSE 'waiting_until'
    END
$$;

-- Whether a failure of this kind is tried again while attempts are left (FailureKind::may_retry).
CREATE FUNCTION tasker_may_retry(failure text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce($1 IN ('retryable', 'timed_out', 'panicked'), false)
$$;

CREATE FUNCTION get_step_readiness_status_batch(input_task_ids uuid[], now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id               uuid,
    "position"            int,
    name                  text,
    current_state         text,
    readiness             text,
    dependencies_satisfied boolean,
    retry_eligible        boolean,
    ready_for_execution   boolean,
    last_failure_at       timestamptz,
    next_retry_at         timestamptz,
    total_parents         int,
    completed_parents     int,
    attempts              int,
    retry_limit           bigint,
    last_attempted_at     timestamptz)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT s.task_id, s.position, s.name, s.state, r.readiness,
           s.unfinished_parents = 0,
           s.attempts < s.attempt_limit AND (s.state <> 'error' OR tasker_may_retry(s.failure)),
           r.readiness IN ('ready', 'lease_expired'),
           CASE WHEN s.state = 'error' THEN s.finished_at END,
           CASE WHEN s.state IN ('pending', 'error') THEN s.due_at END,
           p.parents, p.parents - s.unfinished_parents,
           s.attempts, s.attempt_limit, s.started_at
    FROM tasker_steps s
    JOIN tasker_template_steps p ON p.template_id = s.template_id AND p.position = s.position
    CROSS JOIN LATERAL (SELECT tasker_readiness(s.state, s.due_at, s.unfinished_parents, $2) AS readiness) r
    WHERE s.task_id = ANY ($1)
    ORDER BY s.task_id, s.position
$$;

CREATE FUNCTION get_step_readiness_status(
    input_task_id uuid, step_ids int[] DEFAULT NULL, now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id               uuid,
    "position"            int,
    name                  text,
    current_state         text,
    readiness             text,
    dependencies_satisfied boolean,
    retry_eligible        boolean,
    ready_for_execution   boolean,
    last_failure_at       timestamptz,
    next_retry_at         timestamptz,
    total_parents         int,
    completed_parents     int,
    attempts              int,
    retry_limit           bigint,
    last_attempted_at     timestamptz)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT r.*
    FROM get_step_readiness_status_batch(ARRAY[$1], $3) r
    WHERE $2 IS NULL OR r.position = ANY ($2)
$$;

-- The rules are those of rollup.rs (ExecutionContext).
CREATE FUNCTION get_task_execution_contexts_batch(input_task_ids uuid[], now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id               uuid,
    template_id           bigint,
    status                text,
    total_steps           bigint,
    pending_steps         bigint,
    in_progress_steps     bigint,
    completed_steps       bigint,
    failed_steps          bigint,
    cancelled_steps       bigint,
    ready_steps           bigint,
    execution_status      text,
    recommended_action    text,
    completion_percentage numeric,
    health_status         text)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT c.task_id, c.template_id, c.state, c.total, c.pending, c.in_progress, c.done, c.failed, c.cancelled,
           c.ready, e.execution_status,
           CASE e.execution_status
               WHEN 'has_ready_steps' THEN 'execute_ready_steps'
               WHEN 'processing' THEN 'wait_for_completion'
               WHEN 'blocked_by_failures' THEN 'handle_failures'
               WHEN 'all_complete' THEN 'finalize_task'
               ELSE 'wait_for_dependencies'
           END,
           CASE WHEN c.total = 0 THEN 0.0 ELSE round(100.0 * c.done / c.total, 2) END,
           CASE
               WHEN c.failed = 0 THEN 'healthy'
               WHEN c.blocked > 0 AND c.ready = 0 THEN 'blocked'
               ELSE 'recovering'
           END
    FROM (
        SELECT t.task_id, t.template_id, t.state,
               count(s.position) AS total,
               count(*) FILTER (WHERE s.current_state = 'pending') AS pending,
               count(*) FILTER (WHERE s.current_state = 'in_progress') AS in_progress,
               count(*) FILTER (WHERE s.readiness = 'done') AS done,
               count(*) FILTER (WHERE s.current_state = 'error') AS failed,
               count(*) FILTER (WHERE s.current_state = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE s.ready_for_execution) AS ready,
               count(*) FILTER (WHERE s.current_state = 'error' AND s.readiness = 'blocked') AS blocked,
               count(*) FILTER (WHERE s.readiness = 'waiting_until') AS waiting
        FROM tasker_tasks t
        LEFT JOIN get_step_readiness_status_batch($1, $2) s ON s.task_id = t.task_id
        WHERE t.task_id = ANY ($1)
        GROUP BY t.task_id, t.template_id, t.state
    ) c
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN c.ready > 0 THEN 'has_ready_steps'
            WHEN c.in_progress > 0 THEN 'processing'
            WHEN c.blocked > 0 AND c.waiting = 0 THEN 'blocked_by_failures'
            WHEN c.done = c.total AND c.total > 0 THEN 'all_complete'
            ELSE 'waiting_for_dependencies'
        END AS execution_status
    ) e
    ORDER BY c.task_id
$$;

CREATE FUNCTION get_task_execution_context(input_task_id uuid, now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id               uuid,
    template_id           bigint,
    status                text,
    total_steps           bigint,
    pending_steps         bigint,
    in_progress_steps     bigint,
    completed_steps       bigint,
    failed_steps          bigint,
    cancelled_steps       bigint,
    ready_steps           bigint,
    execution_status      text,
    recommended_action    text,
    completion_percentage numeric,
    health_status         text)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT * FROM get_task_execution_contexts_batch(ARRAY[$1], $2)
$$;

-- The levels are counted once, when a definition is registered: no path is walked here.
CREATE FUNCTION calculate_dependency_levels(input_task_id uuid)
RETURNS TABLE ("position" int, dependency_level int)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT s.position, s.level
    FROM tasker_tasks t
    JOIN tasker_template_steps s ON s.template_id = t.template_id
    WHERE t.task_id = $1
    ORDER BY s.level, s.position
$$;

-- The graph of a definition. Depths grow along the edges in the order of their parents' levels, so each
-- edge is looked at once, however many paths there are.
CREATE FUNCTION tasker_template_graph(p_template_id bigint)
RETURNS TABLE ("position" int, parents jsonb, children jsonb, parent_count int, child_count int, min_depth int)
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
#variable_conflict use_column
DECLARE
    v_depths int[];
    e record;
BEGIN
    SELECT array_agg(CASE WHEN s.parents = 0 THEN 0 END ORDER BY s.position) INTO v_depths
    FROM tasker_template_steps s
    WHERE s.template_id = p_template_id;
    FOR e IN
        SELECT g.parent, g.child
        FROM tasker_template_edges g
        JOIN tasker_template_steps s ON s.template_id = g.template_id AND s.position = g.parent
        WHERE g.template_id = p_template_id
        ORDER BY s.level
    LOOP
        v_depths[e.child + 1] := least(v_depths[e.child + 1], v_depths[e.parent + 1] + 1);
    END LOOP;
    RETURN QUERY
    SELECT s.position, coalesce(p.list, '[]'), coalesce(c.list, '[]'), coalesce(p.number, 0),
           coalesce(c.number, 0), d.depth
    FROM tasker_template_steps s
    JOIN unnest(v_depths) WITH ORDINALITY AS d (depth, place) ON d.place = s.position + 1
    LEFT JOIN (SELECT g.child, jsonb_agg(g.parent ORDER BY g.parent) AS list, count(*)::int AS number
               FROM tasker_template_edges g
               WHERE g.template_id = p_template_id
               GROUP BY g.child) p ON p.child = s.position
    LEFT JOIN (SELECT g.parent, jsonb_agg(g.child ORDER BY g.child) AS list, count(*)::int AS number
               FROM tasker_template_edges g
               WHERE g.template_id = p_template_id
               GROUP BY g.parent) c ON c.parent = s.position
    WHERE s.template_id = p_template_id
    ORDER BY s.position;
END $$;

CREATE VIEW tasker_step_dag_relationships AS
SELECT t.task_id, g.position, s.name,
       g.parents AS parent_step_ids, g.children AS child_step_ids, g.parent_count, g.child_count,
       g.parent_count = 0 AS is_root_step, g.child_count = 0 AS is_leaf_step,
       g.min_depth AS min_depth_from_root
FROM tasker_tasks t
CROSS JOIN LATERAL tasker_template_graph(t.template_id) g
JOIN tasker_template_steps s ON s.template_id = t.template_id AND s.position = g.position;

CREATE FUNCTION get_system_health_counts_v01(now timestamptz DEFAULT now())
RETURNS TABLE (
    total_tasks               bigint,
    pending_tasks             bigint,
    in_progress_tasks         bigint,
    complete_tasks            bigint,
    error_tasks               bigint,
    cancelled_tasks           bigint,
    resolved_manually_tasks   bigint,
    total_steps               bigint,
    pending_steps             bigint,
    in_progress_steps         bigint,
    complete_steps            bigint,
    error_steps               bigint,
    cancelled_steps           bigint,
    resolved_manually_steps   bigint,
    skipped_steps             bigint,
    retryable_error_steps     bigint,
    exhausted_retry_steps     bigint,
    permanent_error_steps     bigint,
    in_backoff_steps          bigint,
    active_connections        bigint,
    max_connections           bigint)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT t.*, s.*,
           (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'),
           current_setting('max_connections')::bigint
    FROM (
        SELECT count(*),
               count(*) FILTER (WHERE state = 'pending'),
               count(*) FILTER (WHERE state = 'in_progress'),
               count(*) FILTER (WHERE state = 'complete'),
               count(*) FILTER (WHERE state = 'error'),
               count(*) FILTER (WHERE state = 'cancelled'),
               count(*) FILTER (WHERE state = 'resolved_manually')
        FROM tasker_tasks
    ) t
    CROSS JOIN (
        SELECT count(*),
               count(*) FILTER (WHERE state = 'pending'),
               count(*) FILTER (WHERE state = 'in_progress'),
               count(*) FILTER (WHERE state = 'complete'),
               count(*) FILTER (WHERE state = 'error'),
               count(*) FILTER (WHERE state = 'cancelled'),
               count(*) FILTER (WHERE state = 'resolved_manually'),
               count(*) FILTER (WHERE state = 'skipped'),
               count(*) FILTER (WHERE state = 'error' AND due_at IS NOT NULL),
               count(*) FILTER (WHERE state = 'error' AND due_at IS NULL AND attempts >= attempt_limit),
               count(*) FILTER (WHERE state = 'error' AND due_at IS NULL AND attempts < attempt_limit),
               count(*) FILTER (WHERE state = 'error' AND due_at > $1)
        FROM tasker_steps
    ) s
$$;

CREATE FUNCTION get_analytics_metrics_v01(
    since_timestamp timestamptz DEFAULT NULL, now timestamptz DEFAULT now())
RETURNS TABLE (
    active_tasks_count     bigint,
    total_namespaces_count bigint,
    unique_task_types_count bigint,
    system_health_score    numeric,
    task_throughput        bigint,
    completion_count       bigint,
    error_count            bigint,
    completion_rate        numeric,
    error_rate             numeric,
    avg_task_duration      numeric,
    avg_step_duration      numeric,
    step_throughput        bigint,
    analysis_period_start  timestamptz,
    calculated_at          timestamptz)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT a.active, k.namespaces, k.kinds,
           CASE WHEN a.recent_good + a.recent_bad = 0 THEN 1.0
                ELSE round(a.recent_good::numeric / (a.recent_good + a.recent_bad), 3) END,
           a.created, a.good, a.bad,
           CASE WHEN a.created = 0 THEN 0.0 ELSE round(100.0 * a.good / a.created, 2) END,
           CASE WHEN a.created = 0 THEN 0.0 ELSE round(100.0 * a.bad / a.created, 2) END,
           coalesce(round(a.seconds, 3), 0), coalesce(round(s.seconds, 3), 0), a.steps, p.start, $2
    FROM (SELECT coalesce($1, $2 - interval '1 hour') AS start) p
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE t.state IN ('pending', 'in_progress')) AS active,
               count(*) FILTER (WHERE t.created_at >= $2 - interval '1 hour'
                                AND t.state IN ('complete', 'resolved_manually')) AS recent_good,
               count(*) FILTER (WHERE t.created_at >= $2 - interval '1 hour' AND t.state = 'error') AS recent_bad,
               count(*) FILTER (WHERE t.created_at >= p.start) AS created,
               count(*) FILTER (WHERE t.created_at >= p.start
                                AND t.state IN ('complete', 'resolved_manually')) AS good,
               count(*) FILTER (WHERE t.created_at >= p.start AND t.state = 'error') AS bad,
               avg(extract(epoch FROM t.finished_at - t.created_at)::numeric)
                   FILTER (WHERE t.created_at >= p.start AND t.state = 'complete') AS seconds,
               coalesce(sum(t.total_steps) FILTER (WHERE t.created_at >= p.start), 0) AS steps
        FROM tasker_tasks t
    ) a
    CROSS JOIN LATERAL (
        SELECT avg(extract(epoch FROM s.finished_at - s.started_at)::numeric) AS seconds
        FROM tasker_tasks t
        JOIN tasker_steps s ON s.task_id = t.task_id
        WHERE t.created_at >= p.start AND s.state = 'complete'
    ) s
    CROSS JOIN (
        SELECT count(DISTINCT d.namespace) AS namespaces, count(DISTINCT (d.namespace, d.name)) AS kinds
        FROM tasker_templates d
        WHERE EXISTS (SELECT FROM tasker_tasks t WHERE t.template_id = d.template_id)
    ) k
$$;

CREATE FUNCTION get_slowest_tasks_v01(
    since_timestamp timestamptz DEFAULT NULL, limit_count int DEFAULT 10, namespace_filter text DEFAULT NULL,
    task_name_filter text DEFAULT NULL, version_filter text DEFAULT NULL, now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id          uuid,
    task_name        text,
    namespace_name   text,
    version          text,
    duration_seconds numeric,
    step_count       bigint,
    completed_steps  bigint,
    error_steps      bigint,
    created_at       timestamptz,
    completed_at     timestamptz,
    initiator        text,
    source_system    text,
    status           text)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT t.task_id, d.name, d.namespace, d.version,
           round(extract(epoch FROM t.finished_at - t.created_at)::numeric, 3),
           t.total_steps::bigint, t.done_steps::bigint, t.failed_steps::bigint, t.created_at, t.finished_at,
           r.initiator, r.source_system, t.state
    FROM tasker_tasks t
    JOIN tasker_templates d ON d.template_id = t.template_id
    JOIN tasker_requests r ON r.task_id = t.task_id
    WHERE t.created_at >= coalesce($1, $6 - interval '24 hours')
      AND t.finished_at IS NOT NULL AND t.state IN ('complete', 'error', 'resolved_manually')
      AND ($3 IS NULL OR d.namespace = $3)
      AND ($4 IS NULL OR d.name = $4)
      AND ($5 IS NULL OR d.version = $5)
    ORDER BY t.finished_at - t.created_at DESC, t.task_id
    LIMIT greatest($2, 0)
$$;

CREATE FUNCTION get_slowest_steps_v01(
    since_timestamp timestamptz DEFAULT NULL, limit_count int DEFAULT 10, namespace_filter text DEFAULT NULL,
    task_name_filter text DEFAULT NULL, version_filter text DEFAULT NULL, now timestamptz DEFAULT now())
RETURNS TABLE (
    task_id          uuid,
    "position"       int,
    step_name        text,
    task_name        text,
    namespace_name   text,
    version          text,
    duration_seconds numeric,
    total_seconds    numeric,
    attempts         int,
    created_at       timestamptz,
    completed_at     timestamptz,
    retryable        boolean,
    step_status      text)
LANGUAGE sql STABLE
SET search_path FROM CURRENT
AS $$
    SELECT s.task_id, s.position, s.name, d.name, d.namespace, d.version,
           round(extract(epoch FROM s.finished_at - s.started_at)::numeric, 3),
           round(extract(epoch FROM s.finished_at - t.created_at)::numeric, 3),
           s.attempts, t.created_at, s.finished_at, s.attempt_limit > 1, s.state
    FROM tasker_tasks t
    JOIN tasker_steps s ON s.task_id = t.task_id
    JOIN tasker_templates d ON d.template_id = t.template_id
    WHERE t.created_at >= coalesce($1, $6 - interval '24 hours')
      AND s.state = 'complete' AND s.finished_at > s.started_at
      AND ($3 IS NULL OR d.namespace = $3)
      AND ($4 IS NULL OR d.name = $4)
      AND ($5 IS NULL OR d.version = $5)
    ORDER BY s.finished_at - s.started_at DESC, s.task_id, s.position
    LIMIT greatest($2, 0)
$$;
