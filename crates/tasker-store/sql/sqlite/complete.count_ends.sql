-- complete.count_ends
-- ?3 parents are done, and ?4 ended as the rule asks; ?5 if the step is due by it.
UPDATE tasker_steps
SET unfinished_parents = unfinished_parents - ?3, awaited = awaited - ?4, due_at = coalesce(?5, due_at)
WHERE task_no = ?1 AND position = ?2
