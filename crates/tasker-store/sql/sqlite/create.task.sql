-- create.task
-- Nothing is inserted if the id exists: the create was repeated after a lost answer.
INSERT INTO tasker_tasks (task_id, template_id, state, total_steps, done_steps, open_steps, failed_steps,
                   cancelled_steps, transitions, created_at, deadline_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?7, ?8, ?9)
ON CONFLICT (task_id) DO NOTHING
