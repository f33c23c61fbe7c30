-- query.queues
-- Every queue with open steps or with a limit.
SELECT queue, max(concurrency_limit), sum(running)::int, sum(due)::int
FROM (SELECT queue, NULL::int AS concurrency_limit,
             count(*) FILTER (WHERE state = 'in_progress' AND due_at > coalesce($1, clock_timestamp())) AS running,
             count(*) FILTER (WHERE due_at <= coalesce($1, clock_timestamp())) AS due
      FROM {schema}.tasker_steps
      WHERE due_at IS NOT NULL
      GROUP BY queue
      UNION ALL
      SELECT queue, concurrency_limit, 0, 0 FROM {schema}.tasker_queues) q
GROUP BY queue
ORDER BY queue
