-- held
-- Over the leases of each definition on its queue; the columns are those of tasker_answer.
SELECT 'claimed', s.task_id, s.position, s.attempts, s.attempt_limit, s.template_id, NULL::text,
       r.context::text, p.results, NULL::int[], s.waited_until, NULL::timestamptz, NULL::boolean, p.states,
       s.signal::text, {schema}.tasker_tally(u)
FROM unnest($2, $3) AS k (queue, template_id)
JOIN {schema}.tasker_steps s
    ON s.queue = k.queue AND s.template_id = k.template_id AND s.state = 'in_progress' AND s.worker = $1
JOIN {schema}.tasker_requests r ON r.task_id = s.task_id
LEFT JOIN {schema}.tasker_subtasks u ON u.task_id = s.task_id AND u.position = s.position
CROSS JOIN LATERAL (
    SELECT array_agg(p.result::text ORDER BY e.ordinal) AS results,
           array_agg(p.state ORDER BY e.ordinal) AS states
    FROM {schema}.tasker_template_edges e
    JOIN {schema}.tasker_steps p ON p.task_id = s.task_id AND p.position = e.parent
    WHERE e.template_id = s.template_id AND e.child = s.position) p
ORDER BY s.task_id, s.position
