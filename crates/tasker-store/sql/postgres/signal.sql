-- signal
SELECT {schema}.tasker_signal($1, $2, $3, $4, $5)
