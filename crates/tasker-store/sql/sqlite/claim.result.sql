-- claim.result
SELECT result, state FROM tasker_steps WHERE task_no = ?1 AND position = ?2
