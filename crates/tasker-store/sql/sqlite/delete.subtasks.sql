-- delete.subtasks
DELETE FROM tasker_subtasks WHERE task_no = ?1
