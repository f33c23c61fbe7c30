-- sheet.task
SELECT task_id, template_id, state, transitions, parent_id, parent_position, ordinal, held FROM tasker_tasks WHERE task_no = ?1
