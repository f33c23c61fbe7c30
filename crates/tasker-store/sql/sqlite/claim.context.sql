-- claim.context
SELECT context FROM requests WHERE task_no = ?1
