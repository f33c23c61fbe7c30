-- work.load
SELECT task_id, template_id, state, total_steps, done_steps, open_steps, failed_steps,
       cancelled_steps, transitions
FROM tasker_tasks
WHERE task_no = ?1
