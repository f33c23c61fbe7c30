-- What code has noted about a task when a step of it was complete.
CREATE TABLE tasker_annotations (
    annotation_no   INTEGER PRIMARY KEY,
    task_no         INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    annotation_type TEXT    NOT NULL,
    annotation      TEXT    NOT NULL,
    at              INTEGER NOT NULL
) STRICT;

CREATE INDEX tasker_annotations_task ON tasker_annotations (task_no);
