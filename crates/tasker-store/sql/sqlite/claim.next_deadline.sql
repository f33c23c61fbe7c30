-- claim.next_deadline
SELECT min(deadline_at) FROM tasker_tasks WHERE deadline_at IS NOT NULL
