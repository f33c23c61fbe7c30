-- query.template
SELECT definition FROM tasker_templates WHERE template_id = ?1
