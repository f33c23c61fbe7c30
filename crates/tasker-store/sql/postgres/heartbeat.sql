-- heartbeat
SELECT {schema}.tasker_heartbeat($1, $2, $3, $4, $5, $6)
