-- subtask.list
SELECT ordinal, task_no, task_id, state, template_id
FROM tasker_tasks
WHERE parent_id = ?1 AND parent_position = ?2 AND ordinal >= ?3
ORDER BY ordinal
LIMIT ?4
