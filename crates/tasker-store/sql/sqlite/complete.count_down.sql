-- complete.count_down
-- ?3 parents are done; with the last of them the step is due.
UPDATE tasker_steps
SET due_at = CASE WHEN unfinished_parents = ?3 AND state = 'pending' THEN ?4 ELSE due_at END,
    unfinished_parents = unfinished_parents - ?3
WHERE task_no = ?1 AND position = ?2
RETURNING step_no, state, unfinished_parents, attempts, attempt_limit
