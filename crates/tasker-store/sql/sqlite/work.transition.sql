-- work.transition
INSERT INTO tasker_transitions (task_no, sequence, position, from_state, to_state, at, attempt, worker,
                         actor, reason, duration, failure, retry_at, log)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
