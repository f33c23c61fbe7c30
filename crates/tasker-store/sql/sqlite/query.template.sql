-- query.template
SELECT definition FROM templates WHERE template_id = ?1
