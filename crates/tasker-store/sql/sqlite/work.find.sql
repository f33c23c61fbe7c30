-- work.find
SELECT task_no FROM tasker_tasks WHERE task_id = ?1
