-- query.queues
-- Every queue with open steps or with a limit. Leases apart: each index of open steps holds one kind.
SELECT queue, max(concurrency_limit), sum(running)::int, sum(due)::int
FROM (SELECT queue, NULL::int AS concurrency_limit, 0 AS running,
             count(*) FILTER (WHERE due_at <= coalesce($1, clock_timestamp())) AS due
      FROM {schema}.tasker_steps
      WHERE due_at IS NOT NULL AND state <> 'in_progress'
      GROUP BY queue
      UNION ALL
      SELECT queue, NULL, count(*) FILTER (WHERE due_at > coalesce($1, clock_timestamp())),
             count(*) FILTER (WHERE due_at <= coalesce($1, clock_timestamp()))
      FROM {schema}.tasker_steps
      WHERE state = 'in_progress'
      GROUP BY queue
      UNION ALL
      SELECT queue, concurrency_limit, 0, 0 FROM {schema}.tasker_queues) q
GROUP BY queue
ORDER BY queue
