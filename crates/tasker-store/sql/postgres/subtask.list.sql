-- subtask.list
-- With the results of the steps on which no other depends.
SELECT t.ordinal, t.task_id, t.state, r.names, r.results
FROM {schema}.tasker_tasks t
CROSS JOIN LATERAL (
    SELECT array_agg(s.name ORDER BY s.position) AS names,
           array_agg(s.result::text ORDER BY s.position) AS results
    FROM {schema}.tasker_steps s
    WHERE s.task_id = t.task_id
      AND NOT EXISTS (SELECT
                      FROM {schema}.tasker_template_edges e
                      WHERE e.template_id = t.template_id AND e.parent = s.position)) r
WHERE t.parent_task = $1 AND t.parent_position = $2 AND t.ordinal >= $3
ORDER BY t.ordinal
LIMIT $4
