-- aftermath.begin
UPDATE tasker_tasks SET aftermath_at = ?2 WHERE task_no = ?1
