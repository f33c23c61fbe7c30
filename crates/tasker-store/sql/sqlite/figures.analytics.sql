-- figures.analytics
-- ?1: since when tasks count, ?2: since when they count for the health score. Times are summed in whole
-- microseconds and divided by the caller.
SELECT sum(state IN ('pending', 'in_progress')),
       sum(created_at >= ?2 AND state IN ('complete', 'resolved_manually')),
       sum(created_at >= ?2 AND state = 'error'),
       sum(created_at >= ?1),
       sum(created_at >= ?1 AND state IN ('complete', 'resolved_manually')),
       sum(created_at >= ?1 AND state = 'error'),
       sum(created_at >= ?1 AND state = 'complete'),
       sum(iif(created_at >= ?1 AND state = 'complete', finished_at - created_at, 0)),
       sum(iif(created_at >= ?1, total_steps, 0))
FROM tasker_tasks
