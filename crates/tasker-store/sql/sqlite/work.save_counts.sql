-- work.save_counts
-- Leaves the state alone, and with it the index over states: this is the update of every commit.
UPDATE tasker_tasks
SET done_steps = ?2, open_steps = ?3, failed_steps = ?4, cancelled_steps = ?5, transitions = ?6
WHERE task_no = ?1
