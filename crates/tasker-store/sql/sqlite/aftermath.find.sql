-- aftermath.find
SELECT task_no, task_id, state, aftermath_at
FROM tasker_tasks INDEXED BY tasker_tasks_aftermath
WHERE aftermath_at IS NOT NULL AND template_id IN (SELECT value FROM json_each(?1))
ORDER BY aftermath_at
LIMIT ?2
