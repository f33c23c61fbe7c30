-- query.signals
SELECT name, payload::text, sent_by, at FROM {schema}.tasker_signals WHERE task_id = $1 ORDER BY name
