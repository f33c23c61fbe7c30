-- subtask.release
-- The next one that is held.
UPDATE tasker_tasks
SET held = 0
WHERE task_no = (SELECT task_no
                 FROM tasker_tasks
                 WHERE parent_id = ?1 AND parent_position = ?2 AND held = 1
                 ORDER BY ordinal
                 LIMIT 1)
RETURNING task_no
