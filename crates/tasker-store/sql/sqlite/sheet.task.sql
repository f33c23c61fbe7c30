-- sheet.task
SELECT task_id, template_id, state, transitions FROM tasker_tasks WHERE task_no = ?1
