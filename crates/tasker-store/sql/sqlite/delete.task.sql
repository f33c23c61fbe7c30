-- delete.task
DELETE FROM tasker_tasks WHERE task_no = ?1
