-- delete.request
DELETE FROM tasker_requests WHERE task_no = ?1
