-- create.find_idempotency_key
SELECT task_id FROM tasker_requests JOIN tasker_tasks USING (task_no) WHERE idempotency_key = ?1
