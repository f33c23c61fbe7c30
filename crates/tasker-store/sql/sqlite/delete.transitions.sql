-- delete.transitions
DELETE FROM tasker_transitions WHERE task_no = ?1
