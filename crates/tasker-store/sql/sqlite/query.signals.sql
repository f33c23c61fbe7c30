-- query.signals
SELECT name, payload, sent_by, at FROM tasker_signals WHERE task_no = ?1 ORDER BY name
