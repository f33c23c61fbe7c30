-- register_template
INSERT INTO tasker_templates (content_hash, namespace, name, version, definition, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (content_hash) DO NOTHING
