-- subtask.plan
-- What came first counts.
INSERT INTO tasker_subtasks (task_no, position, planned, concurrency, max_failures, gather, created, open, held,
                             failed)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0)
ON CONFLICT DO NOTHING
