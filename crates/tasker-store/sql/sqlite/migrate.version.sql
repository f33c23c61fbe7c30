-- migrate.version
SELECT coalesce(max(version), 0) FROM tasker_schema
