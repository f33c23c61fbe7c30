-- claim.waited
SELECT waited_until, signal FROM tasker_steps WHERE step_no = ?1
