-- claim.next_due
SELECT min(due_at) FROM tasker_steps WHERE queue = ?1 AND template_id = ?2 AND due_at > ?3
