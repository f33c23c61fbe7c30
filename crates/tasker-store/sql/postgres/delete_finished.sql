-- delete_finished
SELECT * FROM {schema}.tasker_delete_finished($1, $2, $3, $4, $5)
