-- subtask.tally
SELECT planned, concurrency, max_failures, gather, created, open, held, failed
FROM tasker_subtasks
WHERE task_no = ?1 AND position = ?2
