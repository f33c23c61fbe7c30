-- delete.signals
DELETE FROM tasker_signals WHERE task_no = ?1
