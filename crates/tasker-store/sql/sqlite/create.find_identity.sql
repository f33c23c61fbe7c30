-- create.find_identity
SELECT task_id FROM tasker_requests JOIN tasker_tasks USING (task_no)
WHERE identity = ?1 AND requested_at > ?2
LIMIT 1
