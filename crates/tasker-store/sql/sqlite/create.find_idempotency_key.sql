-- create.find_idempotency_key
SELECT task_id FROM requests JOIN tasks USING (task_no) WHERE idempotency_key = ?1
