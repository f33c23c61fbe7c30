-- query.queues
-- Every queue with open steps or with a limit.
SELECT queue, max(concurrency_limit), sum(running), sum(due)
FROM (SELECT queue, NULL AS concurrency_limit,
             sum(state = 'in_progress' AND due_at > ?1) AS running, sum(due_at <= ?1) AS due
      FROM tasker_steps
      WHERE due_at IS NOT NULL
      GROUP BY queue
      UNION ALL
      SELECT queue, concurrency_limit, 0, 0 FROM tasker_queues)
GROUP BY queue
ORDER BY queue
