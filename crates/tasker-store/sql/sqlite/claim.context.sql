-- claim.context
SELECT context FROM tasker_requests WHERE task_no = ?1
