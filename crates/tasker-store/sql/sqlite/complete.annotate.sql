-- complete.annotate
INSERT INTO tasker_annotations (task_no, position, annotation_type, annotation, at) VALUES (?1, ?2, ?3, ?4, ?5)
