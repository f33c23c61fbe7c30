-- figures.health
SELECT * FROM {schema}.get_system_health_counts_v01(coalesce($1, now()))
