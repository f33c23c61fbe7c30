-- query.template_id
SELECT template_id FROM tasker_templates WHERE content_hash = ?1
