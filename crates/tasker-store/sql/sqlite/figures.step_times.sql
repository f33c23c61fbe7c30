-- figures.step_times
SELECT count(*), sum(s.finished_at - s.started_at)
FROM tasker_tasks t
JOIN tasker_steps s USING (task_no)
WHERE t.created_at >= ?1 AND s.state = 'complete'
