-- held
-- Over the leases of each definition on its queue; the columns are those of tasker_answer.
SELECT 'claimed', s.task_id, s.position, s.attempts, s.attempt_limit, s.template_id, NULL::text,
       r.context::text,
       (SELECT array_agg(p.result::text ORDER BY e.ordinal)
        FROM {schema}.tasker_template_edges e
        JOIN {schema}.tasker_steps p ON p.task_id = s.task_id AND p.position = e.parent
        WHERE e.template_id = s.template_id AND e.child = s.position)
FROM unnest($2, $3) AS k (queue, template_id)
JOIN {schema}.tasker_steps s
    ON s.queue = k.queue AND s.template_id = k.template_id AND s.state = 'in_progress' AND s.worker = $1
JOIN {schema}.tasker_requests r ON r.task_id = s.task_id
ORDER BY s.task_id, s.position
