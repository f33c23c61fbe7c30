-- migrate.set_version
-- One row per step up, so that the table is also the history of the file.
INSERT INTO tasker_schema (version) VALUES (?1)
