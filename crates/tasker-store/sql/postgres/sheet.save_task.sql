-- sheet.save_task
-- A task that leaves its final state was re-opened by a person: its deadline no longer holds.
UPDATE {schema}.tasker_tasks
SET done_steps = $2, open_steps = $3, failed_steps = $4, cancelled_steps = $5, transitions = $6,
    state = $7, finished_at = CASE WHEN $10 THEN $8 ELSE finished_at END,
    deadline_at = CASE WHEN $9 THEN NULL ELSE deadline_at END, aftermath_at = coalesce($11, aftermath_at)
WHERE task_id = $1
