-- query.annotations
SELECT a.annotation_type, a.annotation::text, s.name, a.at
FROM {schema}.tasker_annotations a
JOIN {schema}.tasker_steps s ON s.task_id = a.task_id AND s.position = a.position
WHERE a.task_id = $1
ORDER BY a.sequence, a.ordinal
