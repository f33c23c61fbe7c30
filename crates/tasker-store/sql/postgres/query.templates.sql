-- query.templates
SELECT template_id, definition FROM {schema}.tasker_templates WHERE template_id > $1 ORDER BY template_id
