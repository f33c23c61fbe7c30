-- migrate.keep_version
CREATE TABLE IF NOT EXISTS tasker_schema (version INTEGER NOT NULL) STRICT
