-- delete.annotations
DELETE FROM tasker_annotations WHERE task_no = ?1
