-- aftermath.find
-- With the open sub-tasks of steps that have ended.
SELECT t.task_id, t.state, t.aftermath_at, o.orphans
FROM {schema}.tasker_tasks t
CROSS JOIN LATERAL (
    SELECT array_agg(o.task_id) AS orphans
    FROM (SELECT c.task_id
          FROM {schema}.tasker_tasks c
          JOIN {schema}.tasker_steps s ON s.task_id = t.task_id AND s.position = c.parent_position
          WHERE c.parent_task = t.task_id AND c.state IN ('pending', 'in_progress') AND s.due_at IS NULL
          LIMIT $2) o) o
WHERE t.aftermath_at IS NOT NULL AND t.template_id = ANY ($1)
ORDER BY t.aftermath_at
LIMIT $2
