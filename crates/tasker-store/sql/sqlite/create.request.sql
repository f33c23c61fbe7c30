-- create.request
INSERT INTO tasker_requests (task_no, context, initiator, source_system, reason, tags, bypass_steps,
                      requested_at, idempotency_key, identity, priority, start_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
