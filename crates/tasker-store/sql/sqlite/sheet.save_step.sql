-- sheet.save_step
UPDATE tasker_steps
SET state = ?3, attempt_limit = ?4, lost_attempts = ?5, unfinished_parents = ?6, due_at = ?7,
    failure = ?8, worker = ?9, finished_at = ?10, result = coalesce(?11, result),
    awaited = ?12, waited_until = ?13, awaits = ?14
WHERE task_no = ?1 AND position = ?2
