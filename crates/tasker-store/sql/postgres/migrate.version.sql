-- migrate.version
-- What one migration breaks, a later one does not mend.
SELECT max(version), max(compatible_with) FROM {schema}.tasker_schema
