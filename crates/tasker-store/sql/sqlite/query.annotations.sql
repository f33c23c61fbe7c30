-- query.annotations
SELECT a.annotation_type, a.annotation, s.name, a.at
FROM tasker_annotations a
JOIN tasker_steps s ON s.task_no = a.task_no AND s.position = a.position
WHERE a.task_no = ?1
ORDER BY a.annotation_no
