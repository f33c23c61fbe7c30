-- figures.tasks
SELECT count(*), sum(state = 'pending'), sum(state = 'in_progress'), sum(state = 'complete'),
       sum(state = 'error'), sum(state = 'cancelled'), sum(state = 'resolved_manually')
FROM tasker_tasks
