-- claim.next_deadline
SELECT min(deadline_at) FROM tasks WHERE deadline_at IS NOT NULL
