-- aftermath.orphans
-- Open sub-tasks of steps that have ended.
SELECT t.task_id
FROM tasker_tasks t
JOIN tasker_steps s ON s.task_no = ?1 AND s.position = t.parent_position
WHERE t.parent_id = ?2 AND t.state IN ('pending', 'in_progress') AND s.due_at IS NULL
LIMIT ?3
