-- query.template
SELECT definition FROM {schema}.tasker_templates WHERE template_id = $1
