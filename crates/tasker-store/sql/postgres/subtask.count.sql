-- subtask.count
-- Of one sub-task that went from a state to another.
SELECT {schema}.tasker_count_subtasks($1, ARRAY[$2::uuid], ARRAY[$3::text], '{}', '{}')
