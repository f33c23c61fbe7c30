-- sheet.save_steps
UPDATE {schema}.tasker_steps s
SET state = n.state, attempt_limit = n.attempt_limit, lost_attempts = n.lost_attempts,
    unfinished_parents = n.unfinished_parents, due_at = n.due_at, failure = n.failure, worker = n.worker,
    finished_at = n.finished_at, result = coalesce(n.result::json, s.result),
    awaited = n.awaited, waited_until = n.waited_until, awaits = n.awaits
FROM unnest($2::int[], $3::text[], $4::bigint[], $5::int[], $6::int[], $7::timestamptz[], $8::text[],
            $9::uuid[], $10::timestamptz[], $11::text[], $12::int[], $13::timestamptz[], $14::text[])
    AS n (position, state, attempt_limit, lost_attempts, unfinished_parents, due_at, failure, worker,
          finished_at, result, awaited, waited_until, awaits)
WHERE s.task_id = $1 AND s.position = n.position
