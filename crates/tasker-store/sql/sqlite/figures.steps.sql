-- figures.steps
SELECT count(*), sum(state = 'pending'), sum(state = 'in_progress'), sum(state = 'complete'),
       sum(state = 'error'), sum(state = 'cancelled'), sum(state = 'resolved_manually'),
       sum(state = 'skipped'),
       sum(state = 'error' AND due_at IS NOT NULL),
       sum(state = 'error' AND due_at IS NULL AND attempts >= attempt_limit),
       sum(state = 'error' AND due_at IS NULL AND attempts < attempt_limit),
       sum(state = 'error' AND coalesce(due_at > ?1, 0))
FROM tasker_steps
