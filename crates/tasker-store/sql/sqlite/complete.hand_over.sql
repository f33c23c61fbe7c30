-- complete.hand_over
-- As complete.count_down, but a step that becomes ready is claimed by the worker that made it so:
-- one update instead of two, and no detour through the index of due steps.
UPDATE tasker_steps
SET due_at = CASE WHEN unfinished_parents = ?3 AND state = 'pending' THEN ?4 ELSE due_at END,
    attempts = attempts + (unfinished_parents = ?3 AND state = 'pending'),
    worker = CASE WHEN unfinished_parents = ?3 AND state = 'pending' THEN ?5 ELSE worker END,
    started_at = CASE WHEN unfinished_parents = ?3 AND state = 'pending' THEN ?6 ELSE started_at END,
    state = CASE WHEN unfinished_parents = ?3 AND state = 'pending' THEN 'in_progress' ELSE state END,
    unfinished_parents = unfinished_parents - ?3
WHERE task_no = ?1 AND position = ?2
RETURNING step_no, state, unfinished_parents, attempts, attempt_limit
