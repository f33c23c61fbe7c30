-- create.step
INSERT INTO tasker_steps (task_no, position, name, state, attempts, attempt_limit, lost_attempts,
                   unfinished_parents, due_at, queue, template_id, worker, started_at, priority, awaited)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
