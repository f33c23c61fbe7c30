-- query.template_id
SELECT template_id FROM templates WHERE content_hash = ?1
