-- What the writing of workflows needs.

-- What a handler logged during an attempt, on the transition that ended it.
ALTER TABLE tasker_transitions ADD COLUMN log TEXT;
