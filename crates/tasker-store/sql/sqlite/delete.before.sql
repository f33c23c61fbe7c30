-- delete.before
SELECT task_no FROM tasker_tasks WHERE task_id < ?1 ORDER BY task_id DESC LIMIT 1
