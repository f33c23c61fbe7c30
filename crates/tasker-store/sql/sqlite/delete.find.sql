-- delete.find
-- From the beginning of the table, where the oldest are. A sub-task is kept for as long as the task that started
-- it, and a task until its aftermath is seen to.
SELECT t.task_no, t.task_id
FROM tasker_tasks t
JOIN tasker_templates p USING (template_id)
WHERE t.task_no > ?1
  AND t.finished_at < ?2
  AND t.state IN (SELECT value FROM json_each(?3))
  AND (?4 IS NULL OR p.namespace = ?4)
  AND t.aftermath_at IS NULL
  AND NOT EXISTS (SELECT * FROM tasker_tasks o WHERE o.task_id = t.parent_id)
ORDER BY t.task_no
LIMIT ?5
