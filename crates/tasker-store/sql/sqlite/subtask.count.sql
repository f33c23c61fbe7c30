-- subtask.count
UPDATE tasker_subtasks
SET created = created + ?3, open = open + ?4, held = held + ?5, failed = failed + ?6
WHERE task_no = ?1 AND position = ?2
RETURNING planned, concurrency, max_failures, gather, created, open, held, failed
