-- sheet.record
INSERT INTO {schema}.tasker_transitions (task_id, sequence, position, from_state, to_state, at, attempt,
                                         worker, actor, reason, failure)
SELECT $1, $2 + n.ordinal, n.position, n.from_state, n.to_state, $3, n.attempt, n.worker, n.actor, n.reason,
       n.failure::json
FROM unnest($4::int[], $5::text[], $6::text[], $7::int[], $8::uuid[], $9::text[], $10::text[], $11::text[])
    WITH ORDINALITY AS n (position, from_state, to_state, attempt, worker, actor, reason, failure, ordinal)
