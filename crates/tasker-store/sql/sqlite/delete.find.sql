-- delete.find
-- From the beginning of the table, where the oldest are.
SELECT t.task_no, t.task_id
FROM tasker_tasks t
JOIN tasker_templates p USING (template_id)
WHERE t.task_no > ?1
  AND t.finished_at < ?2
  AND t.state IN (SELECT value FROM json_each(?3))
  AND (?4 IS NULL OR p.namespace = ?4)
ORDER BY t.task_no
LIMIT ?5
