-- delete.steps
DELETE FROM tasker_steps WHERE task_no = ?1
