-- note_progress
SELECT {schema}.tasker_note_progress($1, $2, $3, $4, $5)
