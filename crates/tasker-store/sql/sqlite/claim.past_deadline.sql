-- claim.past_deadline
SELECT task_no FROM tasker_tasks WHERE deadline_at <= ?1 ORDER BY deadline_at LIMIT ?2
