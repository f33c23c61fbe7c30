-- subtask.undone_by
SELECT task_id, state FROM tasker_tasks WHERE parent_id = ?1 AND parent_position IS NULL
