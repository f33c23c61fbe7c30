-- Tasks created in a transaction of the caller's own, from any language.
--
-- A request is checked as the library checks it (request.rs), save for the schema of the context, which
-- only the engine knows how to apply: such a task is marked, and a worker checks its context before a
-- handler sees it.

ALTER TABLE tasker_requests ADD COLUMN unchecked boolean NOT NULL DEFAULT false;

-- As in 0002_engine.sql, with a word for contexts that nobody has held against their schema.
CREATE OR REPLACE FUNCTION tasker_inputs(p_tasks uuid[], p_positions int[], p_wanted boolean[])
RETURNS SETOF tasker_answer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    SELECT 'claimed', c.task_id, c.position, s.attempts, s.attempt_limit, s.template_id,
           CASE WHEN r.unchecked THEN 'unchecked' END, r.context::text, p.results, NULL::int[], s.waited_until,
           NULL::timestamptz, NULL::boolean, p.states, s.signal::text, tasker_tally(u)
    FROM unnest(p_tasks, p_positions, p_wanted) WITH ORDINALITY AS c (task_id, position, wanted, ordinal)
    JOIN tasker_steps s ON s.task_id = c.task_id AND s.position = c.position
    JOIN tasker_requests r ON r.task_id = c.task_id
    LEFT JOIN tasker_subtasks u ON u.task_id = c.task_id AND u.position = c.position
    CROSS JOIN LATERAL (
        SELECT array_agg(p.result::text ORDER BY e.ordinal) AS results,
               array_agg(p.state ORDER BY e.ordinal) AS states
        FROM tasker_template_edges e
        JOIN tasker_steps p ON p.task_id = c.task_id AND p.position = e.parent
        WHERE e.template_id = s.template_id AND e.child = c.position) p
    WHERE c.wanted
    ORDER BY c.ordinal;
END $$;

-- A number as json.rs writes it: whole numbers of 64 bits as they are, all others as the nearest double, in
-- its shortest form.
CREATE FUNCTION tasker_canonical_number(p_number text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET extra_float_digits = 1
AS $$
DECLARE
    v_parts text[];
    v_digits text;
    v_sign text;
    v_power int;
    v_point int;
BEGIN
    IF p_number ~ '^-?\d+$' AND p_number::numeric BETWEEN -9223372036854775808 AND 18446744073709551615 THEN
        RETURN p_number;
    END IF;
    v_parts := regexp_match(p_number::double precision::text, '^(-?)(\d+)(?:\.(\d+))?(?:e([-+]\d+))?$');
    v_sign := v_parts[1];
    v_digits := ltrim(v_parts[2] || coalesce(v_parts[3], ''), '0');
    v_power := coalesce(v_parts[4], '0')::int - length(coalesce(v_parts[3], ''));
    IF v_digits = '' THEN
        RETURN v_sign || '0.0';
    END IF;
    v_power := v_power + length(v_digits) - length(rtrim(v_digits, '0'));
    v_digits := rtrim(v_digits, '0');
    -- Where the decimal point stands, counted from the first digit.
    v_point := length(v_digits) + v_power;
    RETURN v_sign || CASE
        WHEN v_power >= 0 AND v_point <= 16 THEN v_digits || repeat('0', v_power) || '.0'
        WHEN v_point BETWEEN 1 AND 16 THEN left(v_digits, v_point) || '.' || substr(v_digits, v_point + 1)
        WHEN v_point BETWEEN -4 AND 0 THEN '0.' || repeat('0', -v_point) || v_digits
        ELSE left(v_digits, 1) || CASE WHEN length(v_digits) > 1 THEN '.' ELSE '' END || substr(v_digits, 2)
             || 'e' || CASE WHEN v_point > 0 THEN '+' ELSE '' END || (v_point - 1)
    END;
END $$;

-- One text per value: keys sorted by code point, no white space (canonical in json.rs).
CREATE FUNCTION tasker_canonical(p_value jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT
SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN CASE jsonb_typeof(p_value)
        WHEN 'object' THEN (
            SELECT '{' || coalesce(string_agg(to_jsonb(e.key)::text || ':' || tasker_canonical(e.value), ','
                                              ORDER BY e.key COLLATE "C"), '') || '}'
            FROM jsonb_each(p_value) e)
        WHEN 'array' THEN (
            SELECT '[' || coalesce(string_agg(tasker_canonical(e.value), ',' ORDER BY e.place), '') || ']'
            FROM jsonb_array_elements(p_value) WITH ORDINALITY AS e (value, place))
        WHEN 'number' THEN tasker_canonical_number(p_value::text)
        ELSE p_value::text
    END;
END $$;

-- A UUID of version 7: it begins with the time, so rows of one day lie together.
CREATE FUNCTION tasker_new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;

-- The channel of this schema's bell: its name hashed by FNV-1a, as bell.rs does it.
CREATE FUNCTION tasker_channel() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    v_name bytea := convert_to(current_schema(), 'UTF8');
    v_hash numeric := 14695981039346656037;
BEGIN
    FOR i IN 0 .. length(v_name) - 1 LOOP
        v_hash := (v_hash - v_hash % 256 + ((v_hash % 256)::int # get_byte(v_name, i))) * 1099511628211
                  % 18446744073709551616;
    END LOOP;
    RETURN 'tasker_' || lpad(to_hex(div(v_hash, 4294967296)::bigint), 8, '0')
        || lpad(to_hex((v_hash % 4294967296)::bigint), 8, '0');
END $$;

-- One text of a request; null or its default if it is absent. p_optional: null may be said, too.
CREATE FUNCTION tasker_request_text(
    p_request jsonb, p_key text, p_default text, p_optional boolean, p_chars_max int)
RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_kind text := jsonb_typeof(p_request -> p_key);
    v_text text := p_request ->> p_key;
BEGIN
    IF v_kind IS NULL OR (v_kind = 'null' AND p_optional) THEN
        RETURN p_default;
    ELSIF v_kind <> 'string' THEN
        RAISE EXCEPTION '`%` is of type %; it must be a string', p_key, v_kind
            USING ERRCODE = 'invalid_parameter_value', HINT = format('write {"%s": "…"}', p_key);
    ELSIF length(v_text) > p_chars_max THEN
        RAISE EXCEPTION '`%` has % characters; at most % are allowed', p_key, length(v_text), p_chars_max
            USING ERRCODE = 'invalid_parameter_value', HINT = format('shorten `%s`', p_key);
    END IF;
    RETURN v_text;
END $$;

-- One time of a request.
CREATE FUNCTION tasker_request_time(p_request jsonb, p_key text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    v_text text := tasker_request_text(p_request, p_key, NULL, true, 64);
BEGIN
    IF v_text !~* '^\d{4}-\d\d-\d\d[t ]\d\d:\d\d(:\d\d([.]\d+)?)?(z|[-+]\d\d(:?\d\d)?)$' THEN
        RAISE invalid_datetime_format;
    END IF;
    RETURN v_text::timestamptz;
EXCEPTION
    WHEN invalid_datetime_format OR datetime_field_overflow OR invalid_time_zone_displacement_value THEN
        RAISE EXCEPTION '`%` is "%", which is not a time', p_key, v_text
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'write date, time and offset, such as 2026-01-31T08:00:00Z';
END $$;

-- One list of texts of a request.
CREATE FUNCTION tasker_request_list(p_request jsonb, p_key text) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_list jsonb := coalesce(p_request -> p_key, '[]');
    v_odd text;
BEGIN
    IF jsonb_typeof(v_list) = 'array' THEN
        SELECT jsonb_typeof(e) INTO v_odd FROM jsonb_array_elements(v_list) e WHERE jsonb_typeof(e) <> 'string';
        IF v_odd IS NULL THEN
            RETURN v_list;
        END IF;
        v_odd := 'holds a value of type ' || v_odd;
    ELSE
        v_odd := 'is of type ' || jsonb_typeof(v_list);
    END IF;
    RAISE EXCEPTION '`%` %; it must be a list of strings', p_key, v_odd
        USING ERRCODE = 'invalid_parameter_value', HINT = format('write {"%s": ["…"]}', p_key);
END $$;

-- The definition that a request means: the version it names, or else the highest; of one version the
-- latest that was registered.
CREATE FUNCTION tasker_request_template(p_namespace text, p_name text, p_version text)
RETURNS tasker_templates
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    v_found tasker_templates;
    v_hint text;
BEGIN
    SELECT * INTO v_found
    FROM tasker_templates t
    WHERE t.namespace = p_namespace AND t.name = p_name AND (p_version IS NULL OR t.version = p_version)
    ORDER BY t.version_order DESC, t.template_id DESC
    LIMIT 1;
    IF FOUND THEN
        RETURN v_found;
    END IF;
    SELECT 'known versions: ' || string_agg(k.version, ', ' ORDER BY k.version_order) INTO v_hint
    FROM (SELECT DISTINCT version, version_order
          FROM tasker_templates
          WHERE namespace = p_namespace AND name = p_name) k;
    IF v_hint IS NULL THEN
        SELECT 'registered: ' || string_agg(k.name, ', ' ORDER BY k.name) INTO v_hint
        FROM (SELECT DISTINCT namespace || '.' || name AS name FROM tasker_templates ORDER BY 1 LIMIT 50) k;
    END IF;
    RAISE EXCEPTION 'No task handler for % in namespace %', p_name,
        p_namespace || coalesce(' and version ' || p_version, '')
        USING ERRCODE = 'invalid_parameter_value',
              HINT = coalesce(v_hint, 'none is registered; a worker registers what it runs when it starts');
END $$;

-- Steps that a request bypasses must exist and be skippable.
CREATE FUNCTION tasker_check_bypass(p_template tasker_templates, p_bypass jsonb) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT
AS $$
DECLARE
    v_name text;
    v_skippable boolean;
BEGIN
    FOR v_name IN SELECT jsonb_array_elements_text(p_bypass) LOOP
        SELECT s.skippable INTO v_skippable
        FROM tasker_template_steps s
        WHERE s.template_id = p_template.template_id AND s.name = v_name;
        CONTINUE WHEN v_skippable;
        RAISE EXCEPTION '`bypass_steps` names `%`, which is not %', v_name,
            CASE WHEN v_skippable IS NULL
                 THEN format('a step of %s.%s@%s', p_template.namespace, p_template.name, p_template.version)
                 ELSE 'skippable' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'skippable steps: ' || coalesce(
                      (SELECT string_agg(s.name, ', ' ORDER BY s.position)
                       FROM tasker_template_steps s
                       WHERE s.template_id = p_template.template_id AND s.skippable), 'none');
    END LOOP;
END $$;

-- Creates a task as part of the caller's transaction; gives its id, or that of the task that the
-- idempotency key or the identity means.
CREATE FUNCTION create_task(request jsonb, identity_strategy text DEFAULT 'default') RETURNS uuid
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
DECLARE
    c_keys constant text[] := ARRAY['name', 'namespace', 'version', 'context', 'initiator', 'source_system',
        'reason', 'tags', 'bypass_steps', 'requested_at', 'idempotency_key', 'priority', 'start_at'];
    c_context_bytes_max constant int := 4194304;
    v_template tasker_templates;
    v_id uuid := tasker_new_id();
    v_known uuid;
    v_odd text;
    v_name text;
    v_context jsonb;
    v_initiator text;
    v_source_system text;
    v_reason text;
    v_key text;
    v_bypass jsonb;
    v_tags jsonb;
    v_requested_at timestamptz;
    v_start_at timestamptz;
    v_priority int;
    v_identity text;
BEGIN
    IF request IS NULL OR jsonb_typeof(request) <> 'object' THEN
        RAISE EXCEPTION 'the request is %; it must be a JSON object', coalesce(jsonb_typeof(request), 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'allowed keys: ' || array_to_string(c_keys, ', ');
    END IF;
    SELECT string_agg(k, ', ' ORDER BY k) INTO v_odd FROM jsonb_object_keys(request) k WHERE k <> ALL (c_keys);
    IF v_odd IS NOT NULL THEN
        RAISE EXCEPTION 'the request has unknown keys: %', v_odd
            USING ERRCODE = 'invalid_parameter_value', HINT = 'allowed keys: ' || array_to_string(c_keys, ', ');
    END IF;
    SELECT string_agg(k, ', ') INTO v_odd FROM unnest(ARRAY['name', 'context']) k WHERE NOT request ? k;
    IF v_odd IS NOT NULL THEN
        RAISE EXCEPTION 'the request lacks %', v_odd
            USING ERRCODE = 'invalid_parameter_value', HINT = 'name and context are required';
    END IF;
    IF identity_strategy IS NULL OR identity_strategy NOT IN ('default', 'hash') THEN
        RAISE EXCEPTION 'unknown identity strategy `%`', coalesce(identity_strategy, 'null')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'allowed: default, hash';
    END IF;
    v_name := tasker_request_text(request, 'name', NULL, false, 64);
    v_template := tasker_request_template(tasker_request_text(request, 'namespace', 'default', false, 64), v_name,
                                          tasker_request_text(request, 'version', NULL, true, 16));
    v_initiator := tasker_request_text(request, 'initiator', 'unknown', false, 128);
    v_source_system := tasker_request_text(request, 'source_system', 'unknown', false, 128);
    v_reason := tasker_request_text(request, 'reason', 'unknown', false, 128);
    v_key := tasker_request_text(request, 'idempotency_key', NULL, true, 255);
    v_tags := tasker_request_list(request, 'tags');
    v_bypass := tasker_request_list(request, 'bypass_steps');
    v_requested_at := coalesce(tasker_request_time(request, 'requested_at'), clock_timestamp());
    v_start_at := tasker_request_time(request, 'start_at');
    IF coalesce(request ->> 'priority', CASE WHEN request ? 'priority' THEN 'null' ELSE '0' END) !~ '^-?\d{1,3}$'
       OR jsonb_typeof(request -> 'priority') = 'string'
       OR abs((coalesce(request ->> 'priority', '0'))::int) > 100 THEN
        RAISE EXCEPTION '`priority` is %; it may be -100 to 100', request -> 'priority'
            USING ERRCODE = 'invalid_parameter_value', HINT = 'write a whole number, such as {"priority": 5}';
    END IF;
    v_priority := coalesce(request ->> 'priority', '0')::int;
    PERFORM tasker_check_bypass(v_template, v_bypass);
    v_context := request -> 'context';
    IF jsonb_typeof(v_context) <> 'object' THEN
        RAISE EXCEPTION 'the context is of type %; it must be a JSON object', jsonb_typeof(v_context)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'write {"context": {…}}';
    ELSIF octet_length(v_context::text) > c_context_bytes_max THEN
        RAISE EXCEPTION 'the context is % bytes of JSON; at most % are allowed', octet_length(v_context::text),
            c_context_bytes_max
            USING ERRCODE = 'invalid_parameter_value', HINT = 'pass a reference to large data instead';
    END IF;
    IF identity_strategy = 'hash' THEN
        -- The document of identity.rs.
        v_identity := encode(sha256(convert_to(tasker_canonical(jsonb_build_object(
            'namespace', v_template.namespace, 'name', v_template.name, 'version', v_template.version,
            'initiator', v_initiator, 'source_system', v_source_system, 'context', v_context,
            'reason', v_reason, 'bypass_steps', v_bypass)), 'UTF8')), 'hex');
    END IF;
    SELECT a.task_id INTO v_known
    FROM tasker_create(
        NULL, ARRAY[v_id], ARRAY[v_template.template_id], ARRAY[v_context::text], ARRAY[v_initiator],
        ARRAY[v_source_system], ARRAY[v_reason], ARRAY[v_tags::text], ARRAY[v_bypass::text],
        ARRAY[v_requested_at],
        ARRAY[v_template.namespace || chr(31) || v_template.name || chr(31) || v_key], ARRAY[v_identity],
        ARRAY[v_requested_at - interval '60 seconds'], ARRAY[v_priority], ARRAY[v_start_at], ARRAY[0], NULL, 0) a
    WHERE a.kind = 'created';
    IF v_known IS NOT NULL THEN
        RETURN v_known;
    END IF;
    IF v_template.definition::jsonb ? 'schema' THEN
        UPDATE tasker_requests SET unchecked = true WHERE task_id = v_id;
    END IF;
    PERFORM pg_notify(tasker_channel(), 'create_task');
    RETURN v_id;
END $$;
