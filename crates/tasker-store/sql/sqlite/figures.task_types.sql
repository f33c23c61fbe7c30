-- figures.task_types
-- A template is a version; a namespace and a name are a type.
SELECT count(DISTINCT namespace), count(DISTINCT namespace || char(31) || name)
FROM tasker_templates
WHERE template_id IN (SELECT template_id FROM tasker_tasks)
