-- signal.keep
-- The first of a name counts.
INSERT INTO tasker_signals (task_no, name, payload, sent_by, at)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT DO NOTHING
