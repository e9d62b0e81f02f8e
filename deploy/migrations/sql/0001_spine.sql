-- The sink database: one row an event, the findings beside it, and the books the sinks keep about themselves.
--
-- Times are event times unless a column says otherwise. Tables that grow with every event are partitioned by event time; the
-- partition key stands in their primary key because Postgres can only hold uniqueness inside one partition. The time of an event
-- is part of its record and the same in every redelivery, so one event id still ends in one row.

CREATE SCHEMA usher;
COMMENT ON SCHEMA usher IS 'What the sinks write: events, decisions, findings, and the books of the sinks themselves.';

-- ---------------------------------------------------------------------------------------------------------------- events
CREATE TABLE usher.events (
    event_id text NOT NULL,
    tenant_id text NOT NULL,
    event_time timestamptz NOT NULL,
    user_id text NOT NULL,
    device_id text NOT NULL,
    content_id text NOT NULL,
    event_type text NOT NULL,
    received_at timestamptz NOT NULL,
    region text NOT NULL,
    subdivision text,
    is_eu boolean NOT NULL,
    has_consent boolean NOT NULL,
    ip_address text NOT NULL,
    subscription_plan text,
    error_code text,
    extra_metadata text,
    payment_token text,
    email_hash text,
    user_agent text,
    session_id text,
    purpose text,
    consent_string text,
    amount double precision,
    warnings text[] NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    PRIMARY KEY (event_id, tenant_id, event_time)
) PARTITION BY RANGE (event_time);
CREATE INDEX events_by_user ON usher.events (tenant_id, user_id, event_time DESC);
CREATE INDEX events_by_time ON usher.events USING brin (event_time) WITH (autosummarize = on);
COMMENT ON TABLE usher.events IS
    'Every valid event that reached a decision, in normal form. Holds the personal data (device, address, hashes), so that it can be kept shorter than the decisions. Partitioned by day of event time.';
COMMENT ON COLUMN usher.events.event_id IS 'Unique id given by the gateway; a retry repeats it.';
COMMENT ON COLUMN usher.events.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.events.event_time IS 'When it happened on the device.';
COMMENT ON COLUMN usher.events.user_id IS 'Account the event belongs to.';
COMMENT ON COLUMN usher.events.device_id IS 'Device that acted.';
COMMENT ON COLUMN usher.events.content_id IS 'Title or resource that was acted on; empty where none.';
COMMENT ON COLUMN usher.events.event_type IS 'What the viewer or the device did, see ott.EventType.';
COMMENT ON COLUMN usher.events.received_at IS 'When Kafka stored the raw event.';
COMMENT ON COLUMN usher.events.region IS 'Country, ISO 3166-1 alpha-2; ZZ where unknown.';
COMMENT ON COLUMN usher.events.subdivision IS 'Subdivision, ISO 3166-2, where the gateway gave one.';
COMMENT ON COLUMN usher.events.is_eu IS 'Whether the region is in the EU or EEA, by ISO code and not by claim.';
COMMENT ON COLUMN usher.events.has_consent IS 'Consent flag of the gateway; the ledger''s answer is decisions.consent.';
COMMENT ON COLUMN usher.events.ip_address IS 'Canonical address text (RFC 5952 for IPv6).';
COMMENT ON COLUMN usher.events.subscription_plan IS 'Plan in lower case.';
COMMENT ON COLUMN usher.events.error_code IS 'Error the device reported.';
COMMENT ON COLUMN usher.events.extra_metadata IS 'Free metadata of the gateway: the text of one JSON object, sanitised.';
COMMENT ON COLUMN usher.events.payment_token IS 'Opaque token of the payment instrument.';
COMMENT ON COLUMN usher.events.email_hash IS 'Hash of the account''s e-mail address.';
COMMENT ON COLUMN usher.events.user_agent IS 'User agent of the client.';
COMMENT ON COLUMN usher.events.session_id IS 'Playback or login session.';
COMMENT ON COLUMN usher.events.purpose IS 'Purpose of processing the gateway named, in lower case.';
COMMENT ON COLUMN usher.events.consent_string IS 'IAB TCF v2 or US privacy string as received.';
COMMENT ON COLUMN usher.events.amount IS 'Amount of a purchase or payment, in the account''s currency.';
COMMENT ON COLUMN usher.events.warnings IS 'Codes of what validation mended or doubts.';
COMMENT ON COLUMN usher.events.source_partition IS 'Partition of the raw event in ott.events.raw.v1.';
COMMENT ON COLUMN usher.events.source_offset IS 'Offset of the raw event in that partition.';

-- ------------------------------------------------------------------------------------------------------------- decisions
CREATE TABLE usher.decisions (
    event_id text NOT NULL,
    tenant_id text NOT NULL,
    event_time timestamptz NOT NULL,
    user_id text NOT NULL,
    event_type text NOT NULL,
    region text NOT NULL,
    outcome text NOT NULL,
    severity text NOT NULL,
    risk double precision NOT NULL,
    threshold double precision NOT NULL,
    reasons jsonb NOT NULL,
    laws text[] NOT NULL,
    purpose text NOT NULL,
    consent text NOT NULL,
    breaches jsonb NOT NULL,
    score_risk double precision NOT NULL,
    members jsonb NOT NULL,
    segment text NOT NULL,
    features real[] NOT NULL,
    links text[] NOT NULL,
    ring_id text,
    ring_size integer NOT NULL,
    ring_risk double precision NOT NULL,
    policy_version text NOT NULL,
    rules_version text NOT NULL,
    model_version text NOT NULL,
    feature_version text NOT NULL,
    received_at timestamptz NOT NULL,
    checked_at timestamptz NOT NULL,
    scored_at timestamptz NOT NULL,
    linked_at timestamptz NOT NULL,
    decided_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    PRIMARY KEY (event_id, tenant_id, event_time)
) PARTITION BY RANGE (event_time);
CREATE INDEX decisions_by_user ON usher.decisions (tenant_id, user_id, event_time DESC);
CREATE INDEX decisions_by_time ON usher.decisions USING brin (event_time) WITH (autosummarize = on);
CREATE INDEX decisions_not_allowed ON usher.decisions (tenant_id, event_time DESC) WHERE outcome <> 'ALLOW';
COMMENT ON TABLE usher.decisions IS
    'The one decision about every event, with all it rests on. The first decision written for an event stands; redelivery changes nothing. Partitioned by day of event time.';
COMMENT ON COLUMN usher.decisions.event_id IS 'Event that was decided, see events.event_id.';
COMMENT ON COLUMN usher.decisions.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.decisions.event_time IS 'When the event happened.';
COMMENT ON COLUMN usher.decisions.user_id IS 'Account.';
COMMENT ON COLUMN usher.decisions.event_type IS 'Type of the event, so that reports need no join.';
COMMENT ON COLUMN usher.decisions.region IS 'Country of the event, ISO 3166-1 alpha-2; ZZ where unknown.';
COMMENT ON COLUMN usher.decisions.outcome IS 'Decision: ALLOW, ALLOW_WITH_CAUTION or BLOCK.';
COMMENT ON COLUMN usher.decisions.severity IS 'LOW, MEDIUM, HIGH or CRITICAL.';
COMMENT ON COLUMN usher.decisions.risk IS 'Final risk in [0, 1] after scoring, network and compliance; high is worse.';
COMMENT ON COLUMN usher.decisions.threshold IS 'Risk in [0, 1] from which the outcome is not ALLOW.';
COMMENT ON COLUMN usher.decisions.reasons IS 'Reasons of the final risk, strongest first: a list of {code, contribution, detail}.';
COMMENT ON COLUMN usher.decisions.laws IS 'Codes of all laws that apply to the event.';
COMMENT ON COLUMN usher.decisions.purpose IS 'Purpose the event was judged under.';
COMMENT ON COLUMN usher.decisions.consent IS 'Consent for that purpose at event time, see ott.ConsentState.';
COMMENT ON COLUMN usher.decisions.breaches IS 'What is breached: a list of {law, rule, article, severity, facts}; empty is lawful.';
COMMENT ON COLUMN usher.decisions.score_risk IS 'Risk in [0, 1] by scoring alone.';
COMMENT ON COLUMN usher.decisions.members IS 'Calibrated score in [0, 1] of each ensemble member by name; null while it has too little data.';
COMMENT ON COLUMN usher.decisions.segment IS 'Segment of the user at event time: new, normal, power, inactive, dormant, suspicious.';
COMMENT ON COLUMN usher.decisions.features IS 'Feature values in the order of the feature dictionary named by feature_version.';
COMMENT ON COLUMN usher.decisions.links IS 'Shared entities of this event as kind:value.';
COMMENT ON COLUMN usher.decisions.ring_id IS 'Ring the user belonged to; null without.';
COMMENT ON COLUMN usher.decisions.ring_size IS 'Users in that ring; 0 without.';
COMMENT ON COLUMN usher.decisions.ring_risk IS 'Risk of that ring in [0, 1].';
COMMENT ON COLUMN usher.decisions.policy_version IS 'Version of thresholds and policy.';
COMMENT ON COLUMN usher.decisions.rules_version IS 'Version of the regulation packs.';
COMMENT ON COLUMN usher.decisions.model_version IS 'Version of the models that scored.';
COMMENT ON COLUMN usher.decisions.feature_version IS 'Version of the feature dictionary.';
COMMENT ON COLUMN usher.decisions.received_at IS 'When Kafka stored the raw event.';
COMMENT ON COLUMN usher.decisions.checked_at IS 'Processing time of compliance.';
COMMENT ON COLUMN usher.decisions.scored_at IS 'Processing time of scoring.';
COMMENT ON COLUMN usher.decisions.linked_at IS 'Processing time of linking.';
COMMENT ON COLUMN usher.decisions.decided_at IS 'Processing time of the decision.';
COMMENT ON COLUMN usher.decisions.stored_at IS 'When the database stored the row: the end of the event''s way.';
COMMENT ON COLUMN usher.decisions.source_partition IS 'Partition of the raw event in ott.events.raw.v1.';
COMMENT ON COLUMN usher.decisions.source_offset IS 'Offset of the raw event in that partition.';

-- ------------------------------------------------------------------------------------------------------------ violations
CREATE TABLE usher.violations (
    violation_id text NOT NULL,
    tenant_id text NOT NULL,
    event_time timestamptz NOT NULL,
    user_id text NOT NULL,
    event_id text NOT NULL,
    law text NOT NULL,
    rule text NOT NULL,
    article text NOT NULL,
    severity text NOT NULL,
    facts text NOT NULL,
    region text NOT NULL,
    found_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (violation_id, tenant_id, event_time)
) PARTITION BY RANGE (event_time);
CREATE INDEX violations_by_user ON usher.violations (tenant_id, user_id, event_time DESC);
CREATE INDEX violations_by_law ON usher.violations (tenant_id, law, event_time DESC);
CREATE INDEX violations_by_time ON usher.violations USING brin (event_time) WITH (autosummarize = on);
COMMENT ON TABLE usher.violations IS 'Every breach of a law by an event. Partitioned by month of event time.';
COMMENT ON COLUMN usher.violations.violation_id IS 'Stable id.';
COMMENT ON COLUMN usher.violations.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.violations.event_time IS 'When the event happened.';
COMMENT ON COLUMN usher.violations.user_id IS 'Account.';
COMMENT ON COLUMN usher.violations.event_id IS 'Event that breaches the law.';
COMMENT ON COLUMN usher.violations.law IS 'Code of the regulation pack, e.g. GDPR.';
COMMENT ON COLUMN usher.violations.rule IS 'Code of the check, e.g. consent-missing.';
COMMENT ON COLUMN usher.violations.article IS 'Provision, e.g. Art 6(1)(a).';
COMMENT ON COLUMN usher.violations.severity IS 'LOW, MEDIUM, HIGH or CRITICAL.';
COMMENT ON COLUMN usher.violations.facts IS 'What was found, in one sentence without personal data.';
COMMENT ON COLUMN usher.violations.region IS 'Country of the event, ISO 3166-1 alpha-2; ZZ where unknown.';
COMMENT ON COLUMN usher.violations.found_at IS 'Processing time.';
COMMENT ON COLUMN usher.violations.stored_at IS 'When the database stored the row.';

-- ---------------------------------------------------------------------------------------------------------------- alerts
-- Alerts and actions are few and are found by their stable id whatever their time, so they are not partitioned.
CREATE TABLE usher.alerts (
    alert_id text NOT NULL,
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    event_id text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    title text NOT NULL,
    detail text NOT NULL,
    event_time timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, alert_id)
);
CREATE INDEX alerts_by_user ON usher.alerts (tenant_id, user_id, event_time DESC);
CREATE INDEX alerts_by_time ON usher.alerts (tenant_id, event_time DESC);
COMMENT ON TABLE usher.alerts IS 'What a person or service should know. The first alert with an id stands.';
COMMENT ON COLUMN usher.alerts.alert_id IS 'Stable id: the same cause gives the same id.';
COMMENT ON COLUMN usher.alerts.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.alerts.user_id IS 'Account.';
COMMENT ON COLUMN usher.alerts.event_id IS 'Event that raised it.';
COMMENT ON COLUMN usher.alerts.kind IS 'Code of the strongest reason.';
COMMENT ON COLUMN usher.alerts.severity IS 'LOW, MEDIUM, HIGH or CRITICAL.';
COMMENT ON COLUMN usher.alerts.title IS 'One line.';
COMMENT ON COLUMN usher.alerts.detail IS 'A few sentences with the reasons.';
COMMENT ON COLUMN usher.alerts.event_time IS 'When the event happened.';
COMMENT ON COLUMN usher.alerts.raised_at IS 'Processing time.';
COMMENT ON COLUMN usher.alerts.stored_at IS 'When the database stored the row.';

-- --------------------------------------------------------------------------------------------------------------- actions
CREATE TABLE usher.actions (
    action_id text NOT NULL,
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    event_id text NOT NULL,
    kind text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    expires_at timestamptz,
    requested_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, action_id)
);
CREATE INDEX actions_by_user ON usher.actions (tenant_id, user_id, requested_at DESC);
COMMENT ON TABLE usher.actions IS 'What downstream services are asked to do.';
COMMENT ON COLUMN usher.actions.action_id IS 'Stable id.';
COMMENT ON COLUMN usher.actions.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.actions.user_id IS 'Account.';
COMMENT ON COLUMN usher.actions.event_id IS 'Event that caused it.';
COMMENT ON COLUMN usher.actions.kind IS 'BLOCK_SESSION, STEP_UP, NOTIFY_USER, BLOCK_IP or SUSPEND_RING.';
COMMENT ON COLUMN usher.actions.target IS 'Session, address, user or ring the action is for.';
COMMENT ON COLUMN usher.actions.reason IS 'Reason code.';
COMMENT ON COLUMN usher.actions.expires_at IS 'Until when it holds; null is for good.';
COMMENT ON COLUMN usher.actions.requested_at IS 'Processing time.';
COMMENT ON COLUMN usher.actions.stored_at IS 'When the database stored the row.';

-- ----------------------------------------------------------------------------------------------------------------- rings
CREATE TABLE usher.rings (
    tenant_id text NOT NULL,
    ring_id text NOT NULL,
    size integer NOT NULL,
    risk double precision NOT NULL,
    evidence text[] NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, ring_id)
);
COMMENT ON TABLE usher.rings IS 'Groups of users held together by shared entities, as last seen. A ring without a row in ring_members is dissolved.';
COMMENT ON COLUMN usher.rings.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.rings.ring_id IS 'Ring, stable while it grows.';
COMMENT ON COLUMN usher.rings.size IS 'Users in the ring.';
COMMENT ON COLUMN usher.rings.risk IS 'Risk in [0, 1], high is worse.';
COMMENT ON COLUMN usher.rings.evidence IS 'Shared entities that hold it together, as kind:value.';
COMMENT ON COLUMN usher.rings.updated_at IS 'Event time of the latest sighting; an older record never replaces a newer one.';

CREATE TABLE usher.ring_members (
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    ring_id text,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX ring_members_by_ring ON usher.ring_members (tenant_id, ring_id) WHERE ring_id IS NOT NULL;
COMMENT ON TABLE usher.ring_members IS 'The ring each user belongs to, as last seen.';
COMMENT ON COLUMN usher.ring_members.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.ring_members.user_id IS 'Account.';
COMMENT ON COLUMN usher.ring_members.ring_id IS 'Ring; null since the user left.';
COMMENT ON COLUMN usher.ring_members.updated_at IS 'Event time of the latest sighting; an older record never replaces a newer one.';

-- ---------------------------------------------------------------------------------------------------------- dead letters
CREATE TABLE usher.dead_letters (
    source_topic text NOT NULL,
    source_partition integer NOT NULL,
    source_offset bigint NOT NULL,
    stage text NOT NULL,
    reasons text[] NOT NULL,
    message text NOT NULL,
    attempt integer NOT NULL,
    event_id text,
    tenant_id text,
    key_sha256 text,
    size_bytes integer NOT NULL,
    dead_topic text NOT NULL,
    dead_partition integer NOT NULL,
    dead_offset bigint NOT NULL,
    failed_at timestamptz NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source_topic, source_partition, source_offset)
);
CREATE INDEX dead_letters_by_time ON usher.dead_letters USING brin (failed_at) WITH (autosummarize = on);
CREATE INDEX dead_letters_by_event ON usher.dead_letters (event_id) WHERE event_id IS NOT NULL;
COMMENT ON TABLE usher.dead_letters IS 'Index of the records that could not be processed. The payload is not copied: it lies in the dead-letter topic only.';
COMMENT ON COLUMN usher.dead_letters.source_topic IS 'Topic the record was read from.';
COMMENT ON COLUMN usher.dead_letters.source_partition IS 'Partition it was read from.';
COMMENT ON COLUMN usher.dead_letters.source_offset IS 'Offset it was read at.';
COMMENT ON COLUMN usher.dead_letters.stage IS 'Stage that refused it.';
COMMENT ON COLUMN usher.dead_letters.reasons IS 'Codes of all reasons.';
COMMENT ON COLUMN usher.dead_letters.message IS 'The reasons in words, without personal data.';
COMMENT ON COLUMN usher.dead_letters.attempt IS 'How often it has been tried, from 1.';
COMMENT ON COLUMN usher.dead_letters.event_id IS 'Event id where the record is readable.';
COMMENT ON COLUMN usher.dead_letters.tenant_id IS 'Tenant where the record is readable and names one.';
COMMENT ON COLUMN usher.dead_letters.key_sha256 IS 'SHA-256 of the record''s key in hex: finds a person''s dead letters without naming the person. Null without a key.';
COMMENT ON COLUMN usher.dead_letters.size_bytes IS 'Size of the value.';
COMMENT ON COLUMN usher.dead_letters.dead_topic IS 'Dead-letter topic that holds key and value untouched.';
COMMENT ON COLUMN usher.dead_letters.dead_partition IS 'Partition in that topic.';
COMMENT ON COLUMN usher.dead_letters.dead_offset IS 'Offset in that topic.';
COMMENT ON COLUMN usher.dead_letters.failed_at IS 'When the stage refused it.';
COMMENT ON COLUMN usher.dead_letters.stored_at IS 'When the database stored the row.';

-- -------------------------------------------------------------------------------------------------- consents and requests
CREATE TABLE usher.consents (
    consent_id text NOT NULL,
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    purpose text NOT NULL,
    granted boolean NOT NULL,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    source text NOT NULL,
    birth_year integer,
    by_guardian boolean,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, consent_id)
);
CREATE INDEX consents_by_user ON usher.consents (tenant_id, user_id, purpose, effective_at DESC);
COMMENT ON TABLE usher.consents IS 'Every consent decision of a person; for a purpose the one with the latest effective_at holds.';
COMMENT ON COLUMN usher.consents.consent_id IS 'Unique id.';
COMMENT ON COLUMN usher.consents.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.consents.user_id IS 'Account.';
COMMENT ON COLUMN usher.consents.purpose IS 'Purpose, or * for all.';
COMMENT ON COLUMN usher.consents.granted IS 'Granted or withdrawn.';
COMMENT ON COLUMN usher.consents.effective_at IS 'From when it holds.';
COMMENT ON COLUMN usher.consents.expires_at IS 'Until when it holds; null is until changed.';
COMMENT ON COLUMN usher.consents.source IS 'Where it was given: app, web, crm, gpc.';
COMMENT ON COLUMN usher.consents.birth_year IS 'Year of birth where the person gave it with the consent.';
COMMENT ON COLUMN usher.consents.by_guardian IS 'Whether a parent or guardian gave it.';
COMMENT ON COLUMN usher.consents.stored_at IS 'When the database stored the row.';

CREATE TABLE usher.privacy_requests (
    request_id text NOT NULL,
    tenant_id text NOT NULL,
    user_id text NOT NULL,
    kind text NOT NULL,
    region text NOT NULL,
    received_at timestamptz NOT NULL,
    channel text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX privacy_requests_by_user ON usher.privacy_requests (tenant_id, user_id, received_at DESC);
COMMENT ON TABLE usher.privacy_requests IS 'Every right a person exercises.';
COMMENT ON COLUMN usher.privacy_requests.request_id IS 'Unique id.';
COMMENT ON COLUMN usher.privacy_requests.tenant_id IS 'Tenant.';
COMMENT ON COLUMN usher.privacy_requests.user_id IS 'Account.';
COMMENT ON COLUMN usher.privacy_requests.kind IS 'ACCESS, PORTABILITY, ERASURE or OPT_OUT.';
COMMENT ON COLUMN usher.privacy_requests.region IS 'Where the person lives, ISO 3166.';
COMMENT ON COLUMN usher.privacy_requests.received_at IS 'When the clock of the legal deadline started.';
COMMENT ON COLUMN usher.privacy_requests.channel IS 'api, crm or mail.';
COMMENT ON COLUMN usher.privacy_requests.stored_at IS 'When the database stored the row.';

-- ----------------------------------------------------------------------------------------------------- books of the sinks
CREATE TABLE usher.sink_offsets (
    sink text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE usher.sink_offsets IS 'How far each sink has written each partition, in the same transaction as the rows. A record of progress: rows are kept exact by their keys.';
COMMENT ON COLUMN usher.sink_offsets.sink IS 'Sink.';
COMMENT ON COLUMN usher.sink_offsets.topic IS 'Topic it reads.';
COMMENT ON COLUMN usher.sink_offsets.partition IS 'Partition.';
COMMENT ON COLUMN usher.sink_offsets.next_offset IS 'Offset after the last record written.';
COMMENT ON COLUMN usher.sink_offsets.updated_at IS 'When that was.';

CREATE TABLE usher.row_counts (
    table_name text NOT NULL,
    shard integer NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (table_name, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE usher.row_counts IS 'Rows the sinks have inserted into each table, exact, added to in the same transaction. Counting ten million rows takes seconds; this takes a look-up.';
COMMENT ON COLUMN usher.row_counts.table_name IS 'Table.';
COMMENT ON COLUMN usher.row_counts.shard IS 'Splits the count so that sink processes do not wait for each other: a partition the writer owns.';
COMMENT ON COLUMN usher.row_counts.rows IS 'Rows inserted under this shard.';

CREATE TABLE usher.row_rates (
    table_name text NOT NULL,
    bucket_at timestamptz NOT NULL,
    shard integer NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (table_name, bucket_at, shard)
) WITH (fillfactor = 50);
COMMENT ON TABLE usher.row_rates IS 'Rows inserted in the last minutes by 5-second bucket of insertion time.';
COMMENT ON COLUMN usher.row_rates.table_name IS 'Table.';
COMMENT ON COLUMN usher.row_rates.bucket_at IS 'Start of the bucket.';
COMMENT ON COLUMN usher.row_rates.shard IS 'As in row_counts.';
COMMENT ON COLUMN usher.row_rates.rows IS 'Rows inserted in the bucket under this shard.';

-- ------------------------------------------------------------------------------------------------------------ partitions
CREATE TABLE usher.partitioning (
    table_name text PRIMARY KEY,
    unit text NOT NULL CHECK (unit IN ('day', 'month')),
    ahead integer NOT NULL CHECK (ahead >= 1),
    back integer NOT NULL CHECK (back >= 0)
);
COMMENT ON TABLE usher.partitioning IS 'How the partitioned tables are cut.';
COMMENT ON COLUMN usher.partitioning.table_name IS 'Table.';
COMMENT ON COLUMN usher.partitioning.unit IS 'Span of a partition: day or month, UTC.';
COMMENT ON COLUMN usher.partitioning.ahead IS 'Partitions made ahead of the present one.';
COMMENT ON COLUMN usher.partitioning.back IS 'How many units back a partition is made for late or backfilled rows; older rows stay in the default partition.';
INSERT INTO usher.partitioning VALUES ('events', 'day', 7, 92), ('decisions', 'day', 7, 92), ('violations', 'month', 2, 24);

CREATE TABLE usher.events_default PARTITION OF usher.events DEFAULT;
CREATE TABLE usher.decisions_default PARTITION OF usher.decisions DEFAULT;
CREATE TABLE usher.violations_default PARTITION OF usher.violations DEFAULT;
COMMENT ON TABLE usher.events_default IS 'Rows outside every made partition: nothing is ever refused for its time.';
COMMENT ON TABLE usher.decisions_default IS 'Rows outside every made partition: nothing is ever refused for its time.';
COMMENT ON TABLE usher.violations_default IS 'Rows outside every made partition: nothing is ever refused for its time.';

CREATE FUNCTION usher.ensure_partition(parent text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    cut usher.partitioning%ROWTYPE;
    step interval;
    lower_at timestamptz;
    upper_at timestamptz;
    child text;
BEGIN
    SELECT * INTO STRICT cut FROM usher.partitioning WHERE table_name = parent;
    step := ('1 ' || cut.unit)::interval;
    IF at < now() - cut.back * step OR at > now() + (cut.ahead + 1) * step THEN
        RETURN false;  -- stays in the default partition: strange times must not make endless partitions
    END IF;
    lower_at := date_trunc(cut.unit, at, 'UTC');
    upper_at := (lower_at AT TIME ZONE 'UTC' + step) AT TIME ZONE 'UTC';
    child := parent || to_char(lower_at AT TIME ZONE 'UTC', CASE cut.unit WHEN 'day' THEN '"_p"YYYYMMDD' ELSE '"_p"YYYYMM' END);
    IF to_regclass('usher.' || child) IS NOT NULL THEN
        RETURN true;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('usher.ensure_partition'));
    IF to_regclass('usher.' || child) IS NOT NULL THEN
        RETURN true;
    END IF;
    EXECUTE format('CREATE TABLE usher.%I (LIKE usher.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
    -- Rows of that span may already lie in the default partition; they have to leave it before the new one can be attached.
    EXECUTE format('LOCK TABLE usher.%I IN ACCESS EXCLUSIVE MODE', parent || '_default');
    EXECUTE format('WITH moved AS (DELETE FROM usher.%I WHERE event_time >= $1 AND event_time < $2 RETURNING *) INSERT INTO usher.%I SELECT * FROM moved',
                   parent || '_default', child) USING lower_at, upper_at;
    EXECUTE format('ALTER TABLE usher.%I ATTACH PARTITION usher.%I FOR VALUES FROM (%L) TO (%L)', parent, child, lower_at, upper_at);
    RETURN true;
END $$;
COMMENT ON FUNCTION usher.ensure_partition(text, timestamptz) IS
    'Makes the partition of a table for a time unless it is there, and moves the rows that wait for it in the default partition. False: the time is too far off, its rows stay in the default partition.';

CREATE FUNCTION usher.make_partitions() RETURNS integer
LANGUAGE sql AS $$
    SELECT count(*)::integer
    FROM usher.partitioning AS cut,
         generate_series(0, cut.ahead) AS later(steps),
         LATERAL usher.ensure_partition(cut.table_name, now() + later.steps * ('1 ' || cut.unit)::interval) AS made
    WHERE made
$$;
COMMENT ON FUNCTION usher.make_partitions() IS 'Makes the present partition of every table and those ahead; returns how many there are. Safe to call at any time.';
