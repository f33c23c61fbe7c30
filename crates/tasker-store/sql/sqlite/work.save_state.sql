-- work.save_state
-- A task that leaves its final state was re-opened by a person: its deadline no longer holds.
UPDATE tasker_tasks
SET done_steps = ?2, open_steps = ?3, failed_steps = ?4, cancelled_steps = ?5, transitions = ?6,
    state = ?7, finished_at = ?8,
    deadline_at = CASE WHEN ?9 THEN NULL ELSE deadline_at END
WHERE task_no = ?1
