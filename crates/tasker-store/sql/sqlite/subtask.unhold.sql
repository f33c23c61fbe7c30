-- subtask.unhold
UPDATE tasker_tasks SET held = 0 WHERE task_no = ?1 AND held = 1
