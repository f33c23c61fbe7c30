-- work.load
SELECT task_id, template_id, state, total_steps, done_steps, open_steps, failed_steps,
       cancelled_steps, transitions, parent_id, parent_position, ordinal, held
FROM tasker_tasks
WHERE task_no = ?1
