-- signal.task
SELECT task_no, state FROM tasker_tasks WHERE task_id = ?1
