-- claim
SELECT * FROM {schema}.tasker_claim($1, $2, $3, $4, $5, $6, $7, $8, $9)
