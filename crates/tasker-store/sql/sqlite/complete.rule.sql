-- complete.rule
SELECT state, due_at, unfinished_parents, awaited FROM tasker_steps WHERE task_no = ?1 AND position = ?2
