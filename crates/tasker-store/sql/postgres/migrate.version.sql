-- migrate.version
SELECT version, compatible_with FROM {schema}.tasker_schema ORDER BY version DESC LIMIT 1
