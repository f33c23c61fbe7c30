-- work.find
SELECT task_no FROM tasks WHERE task_id = ?1
