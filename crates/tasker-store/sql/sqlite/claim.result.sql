-- claim.result
SELECT result FROM steps WHERE task_no = ?1 AND position = ?2
