-- query.templates
SELECT template_id, definition FROM templates ORDER BY template_id
