-- aftermath.end
UPDATE {schema}.tasker_tasks SET aftermath_at = NULL WHERE task_id = $1 AND aftermath_at = $2
