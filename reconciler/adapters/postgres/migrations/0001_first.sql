-- The first schema. Keys and texts are bytea: `text` refuses NUL, and bytea compares byte by byte, which for UTF-8 is the
-- order of code points. Every structured value is one blob of canonical JSON, made by `reconciler.model.codec`;
-- agreements, audit records and messages are packed (`adapters/packing.py`). Only what SQL has to search, order or add up
-- has a column.

-- The dictionary of packed blobs, for other programs: ours has it.
CREATE TABLE dictionary (
    text bytea NOT NULL
);

-- Who writes. A replica holds a slot; (id, epoch) fences what it does, and whoever takes, leaves or empties the slot counts
-- up the epoch. `turn` counts its groups of settlements, so that the fate of one whose answer was lost is known. Each slot
-- has its own audit chain; chain c has the numbers from c * 1,000,000,000,000 + 1 on (`reconciler.model.chain`).
CREATE TABLE slot (
    id smallint PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    held boolean NOT NULL DEFAULT false,
    beat bigint NOT NULL DEFAULT 0,
    seen timestamptz NOT NULL DEFAULT now(),  -- when it last gave a sign of life, for people; decides nothing
    obeys bigint NOT NULL DEFAULT 0,   -- the number of the membership that its holder's requests in flight fit
    obeys_stop bigint NOT NULL DEFAULT 0,  -- the number of the stop since which no write of before is under way
    leaving boolean NOT NULL DEFAULT false,  -- evicted, but its requests may still be in flight
    name text NOT NULL DEFAULT '',
    turn bigint NOT NULL DEFAULT 0,
    chain_number bigint NOT NULL,
    chain_link bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    UNIQUE (id, epoch)                 -- makes the epoch a key column: FOR KEY SHARE keeps an evictor out, but no beat
) WITH (fillfactor = 10);
INSERT INTO slot (id, chain_number) SELECT id, id * 1000000000000 FROM generate_series(0, 15) AS id;

-- Counts the replicas that came or went (`core/scheduling/replicas.py`).
CREATE TABLE membership (
    number bigint NOT NULL
);
INSERT INTO membership VALUES (0);

-- What all replicas obey. A generation begins when this database proves to be another one than before, or in an earlier
-- state: a standby that was promoted, a backup. Nobody takes part in it before one replica has recovered what was agreed.
CREATE TABLE control (
    policy_number bigint NOT NULL,     -- counts the policies that were put in force
    policy_digest text,                -- NULL: none was yet
    alarms bigint NOT NULL,            -- counts the breakers that have opened
    cuts bigint NOT NULL,              -- counts how often overload has lowered the limit on requests
    stops bigint NOT NULL,             -- counts how often operators have stopped all writes or resumed them
    stop bytea,                        -- since when, who and why; NULL: writes go on
    generation bigint NOT NULL,
    began_us bigint,                   -- when it began, by this server's clock; NULL: it is the first
    identity text,                     -- of the database when the generation began; NULL: none has
    stage smallint NOT NULL            -- how far the generation is (`core/scheduling/replicas.py`)
) WITH (fillfactor = 10);
INSERT INTO control VALUES (0, NULL, 0, 0, 0, NULL, 0, NULL, NULL, 0);

-- Which database this is: the cluster, the timeline that it writes, the database, and the table, which a restored dump has
-- made anew. `pg_control_checkpoint` would name the former timeline for a while after a promotion. Fails on a standby.
CREATE FUNCTION identity_1() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s/%s/%s/%s', (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()), 'control'::regclass::oid)
$$;

-- The documents that comparisons have written to lately (`spend_1`).
CREATE TABLE spent (
    document bytea PRIMARY KEY,
    since timestamptz NOT NULL         -- by this server's clock
);

-- What one replica at a time does.
CREATE TABLE duty (
    name text COLLATE "C" PRIMARY KEY,
    slot smallint NOT NULL,
    epoch bigint NOT NULL
);

-- What each slot has folded: in how many statements, so that the fate of one whose answer was lost is known, and how many
-- documents it has added, because counting a hundred million rows takes minutes. Apart from the slot, so that no beat
-- waits for a fold.
CREATE TABLE folding (
    slot smallint PRIMARY KEY,
    turn bigint NOT NULL DEFAULT 0,
    documents bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO folding (slot) SELECT generate_series(0, 15);

-- A document is a row in each of the next three tables, so that a fold rewrites the desired state alone, a settlement the
-- agreement alone, and a look at the queue reads neither. `version` counts every change of the row in `document`.
CREATE TABLE document (
    key bytea PRIMARY KEY,
    version bigint NOT NULL,
    revision bigint NOT NULL,          -- 0: known only from an outcome log, never folded
    status text COLLATE "C" NOT NULL,
    reason bytea NOT NULL,
    lane smallint NOT NULL,
    due_us bigint,                     -- NULL: not until something changes
    pending_since_us bigint,
    conflicts bigint NOT NULL,
    attempts bigint NOT NULL,
    aside_us bigint,                   -- a copy of the agreement's, for its index
    ordinal bigint NOT NULL DEFAULT 0, -- of the document's last audit record, whichever chain it is in
    holder smallint                    -- the slot whose replica attempts it; NULL: none
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
-- Without a row: never folded.
CREATE TABLE desired (
    key bytea PRIMARY KEY,
    folds bigint NOT NULL,             -- counts its changes
    desired bytea NOT NULL
) WITH (fillfactor = 85);
-- Without a row: nothing was ever agreed.
CREATE TABLE agreement (
    key bytea PRIMARY KEY,
    version bigint NOT NULL,           -- counts its changes
    agreement bytea NOT NULL           -- packed
) WITH (fillfactor = 85);

-- Compressed in place where that helps, and moved to a table of its own only if it must be.
ALTER TABLE desired ALTER desired SET STORAGE MAIN;
ALTER TABLE agreement ALTER agreement SET STORAGE MAIN;

CREATE INDEX document_by_due ON document (lane, due_us, key) WHERE due_us IS NOT NULL;
CREATE INDEX document_by_status ON document (status, key) WHERE status <> 'synced';
CREATE INDEX document_by_waiting ON document (status, pending_since_us, key) WHERE pending_since_us IS NOT NULL;
CREATE INDEX document_by_since ON document (pending_since_us) WHERE pending_since_us IS NOT NULL;
CREATE INDEX document_by_aside ON document (status, aside_us, key) WHERE status IN ('parked', 'contended');
CREATE INDEX document_by_conflicts ON document (conflicts DESC, key) WHERE conflicts > 0;
CREATE INDEX document_by_holder ON document (holder) WHERE holder IS NOT NULL;

-- Who has lost a slot has lost its documents and duties, in the statement that counts up the epoch. Who takes some at that
-- time has the slot's KEY SHARE, so this comes after it, and sees them.
CREATE FUNCTION free_what_it_had() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM duty WHERE slot = OLD.id;
    PERFORM FROM document WHERE holder = OLD.id ORDER BY key FOR NO KEY UPDATE;
    UPDATE document SET holder = NULL WHERE holder = OLD.id;
    RETURN NULL;
END $$;
CREATE TRIGGER slot_changes_hands AFTER UPDATE OF epoch ON slot FOR EACH ROW EXECUTE FUNCTION free_what_it_had();

-- Begins a generation, unless another replica was faster. All who took part in the last one lose what they had, and their
-- requests may still be in flight. Whoever stores something has its slot's KEY SHARE, so that comes before or is refused.
CREATE FUNCTION renew_1(seen bigint, OUT renewed boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM slot ORDER BY id FOR UPDATE;
    UPDATE control SET generation = generation + 1, identity = identity_1(), stage = 0,
        began_us = CASE WHEN generation > 0 THEN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint END
    WHERE generation = seen;
    renewed := FOUND;
    IF renewed THEN
        UPDATE slot SET epoch = epoch + 1, leaving = true WHERE held AND NOT leaving;
    END IF;
END $$;

-- Documents that were folded again from the log, each with the number of its last time.
CREATE TABLE refold (
    document bytea PRIMARY KEY,
    number bigint NOT NULL UNIQUE
);

-- Events that changed nothing on arrival: their number and the last one of each document.
CREATE TABLE superseded (
    document bytea PRIMARY KEY,
    count bigint NOT NULL,
    last bytea NOT NULL
);

CREATE TABLE position (
    topic bytea,
    partition integer,
    next_offset bigint NOT NULL,
    anchor_offset bigint,              -- NULL: none was read yet
    anchor_digest text NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

-- Bucket: a hash of the document's key; the messages of one are published in the order of their numbers.
CREATE TABLE outbox (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bucket smallint NOT NULL,
    message bytea NOT NULL             -- packed MessagePack, because JSON would hold the value in Base64
);

CREATE TABLE dead_letter (
    number bigint PRIMARY KEY,         -- the order in which they were refused
    id bytea NOT NULL UNIQUE,          -- topic/partition/offset
    status text COLLATE "C" NOT NULL,
    clock boolean NOT NULL,            -- refused by the host's clock, and so for ever, by its place
    outline bytea NOT NULL,            -- the letter without the bytes of its record, for lists
    letter bytea NOT NULL
);
CREATE INDEX dead_letter_by_status ON dead_letter (status, number);
CREATE INDEX dead_letter_by_clock ON dead_letter (id) WHERE clock;

-- The audit trail: a chain for each slot, which only grows at its end.
CREATE TABLE audit (
    number bigint PRIMARY KEY,
    document bytea NOT NULL,           -- empty: an action on none
    ordinal bigint NOT NULL,           -- orders the document's records, whichever chain they are in
    at_us bigint NOT NULL,
    target bytea,                      -- of an action, as the next two; NULL: a decision
    who bytea,
    kind bytea,
    link bytea NOT NULL,
    record bytea NOT NULL              -- packed; the link is over the record itself
);
CREATE INDEX decision_by_document ON audit (document, at_us) WHERE kind IS NULL;
CREATE INDEX decision_by_time ON audit (at_us) WHERE kind IS NULL;
CREATE INDEX act_by_time ON audit (at_us, number) WHERE kind IS NOT NULL;
CREATE INDEX act_by_document ON audit (document, at_us, number) WHERE kind IS NOT NULL;
CREATE INDEX act_by_target ON audit (target, at_us, number) WHERE kind IS NOT NULL;
CREATE INDEX act_by_who ON audit (who, at_us, number) WHERE kind IS NOT NULL;

-- The heads of all chains from time to time: a chain too, 99, whose head others keep.
CREATE TABLE checkpoint (
    number bigint PRIMARY KEY,
    link bytea NOT NULL,
    record bytea NOT NULL
);

-- No statement of the program changes the trail. This keeps others from changing it by mistake; anyone may drop it, but
-- verifying the chain finds the change.
-- What was archived may be deleted: it is in a piece that begins with the chain, so a later piece's end covers it too.
CREATE FUNCTION refuse_to_change_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    span CONSTANT bigint := 1000000000000;
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT FROM cut WHERE last >= OLD.number AND last < (OLD.number / span + 1) * span
    ) THEN RETURN OLD; END IF;
    RAISE EXCEPTION 'the audit trail is append-only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_audit();
CREATE TRIGGER checkpoints_are_append_only BEFORE UPDATE OR DELETE ON checkpoint
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_audit();

-- The pieces of the trail that were archived: their records, and no others, may be deleted.
CREATE TABLE cut (
    last bigint PRIMARY KEY,           -- the number of the piece's last record
    link bytea NOT NULL,               -- the link of that record, which the next one follows
    act bigint NOT NULL,               -- the number of the record that tells of it
    cut bytea NOT NULL
);
CREATE FUNCTION refuse_to_change_cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was archived stays known';
END $$;
CREATE TRIGGER cut_is_append_only BEFORE UPDATE OR DELETE ON cut
    FOR EACH ROW EXECUTE FUNCTION refuse_to_change_cut();

CREATE TABLE conflict (
    id bytea PRIMARY KEY,
    document bytea NOT NULL,
    opened_at_us bigint NOT NULL,
    closed_at_us bigint,               -- NULL: open
    conflict bytea NOT NULL
);
CREATE INDEX conflict_open ON conflict (opened_at_us, id) WHERE closed_at_us IS NULL;
CREATE INDEX conflict_by_time ON conflict (opened_at_us, id);

CREATE TABLE contention (
    field bytea PRIMARY KEY,
    conflicts bigint NOT NULL,
    attempts bigint NOT NULL
);

-- Version conflicts by the hour (`at_us` / 3,600,000,000), to find hot spots.
CREATE TABLE contention_hour (
    hour bigint,
    kind text COLLATE "C",             -- document or field
    name bytea,
    conflicts bigint NOT NULL,
    attempts bigint NOT NULL,
    PRIMARY KEY (hour, kind, name)
);

CREATE TABLE policy (
    digest text PRIMARY KEY,
    policy bytea NOT NULL
);

-- Since when decisions and outcomes are signed (`reconciler.model.signing`): one row, or none while they are not.
CREATE TABLE signing (
    one smallint PRIMARY KEY CHECK (one = 1),
    noted bytea NOT NULL
);

-- By what the log is read (`reconciler.flows.reading`): one row, or none before the first start.
CREATE TABLE reading (
    one smallint PRIMARY KEY CHECK (one = 1),
    said bytea NOT NULL
);

-- The store that was moved here, by the name of the try (`adapters/postgres/arriving.py`).
CREATE TABLE arrived (
    move text PRIMARY KEY
);

-- One transaction in one statement: nothing is stored unless the caller is whom it says, every row is as it was when the
-- change was decided, and the audit chain's head is the one that the records follow. It holds no rule about documents:
-- `core/folding/rows.py` has decided before, and decides again when `answer` says that something has moved.
-- Locks are taken in one order by all: slot, refolds, documents by key, turn, chain, the rest.
CREATE FUNCTION change_1(
    by_slot smallint,
    by_epoch bigint DEFAULT NULL,      -- NULL: a guest, as in the next two
    by_generation bigint DEFAULT NULL, by_identity text DEFAULT NULL,
    by_policy text DEFAULT NULL,       -- digest of the policy that an intent was decided by
    by_stops bigint DEFAULT NULL,      -- `stops` when its caller last saw whether writes are stopped
    stops_seen bigint DEFAULT NULL,    -- `stops` before this change
    stop_text bytea DEFAULT NULL,      -- what `stop` becomes by it
    fold_turn bigint DEFAULT NULL,
    refolds_seen bigint DEFAULT NULL,  -- when the rows of the batch were read
    refold_key bytea DEFAULT NULL,     -- folded again, up to these positions
    limit_topic bytea[] DEFAULT '{}', limit_partition integer[] DEFAULT '{}', limit_offset bigint[] DEFAULT '{}',
    seen_key bytea[] DEFAULT '{}', seen_version bigint[] DEFAULT '{}',  -- version 0: there is no such row
    head_turn bigint DEFAULT NULL,     -- of the owner
    head_number bigint DEFAULT NULL, head_link bytea DEFAULT NULL,
    record_document bytea[] DEFAULT '{}', record_at_us bigint[] DEFAULT '{}', record_target bytea[] DEFAULT '{}',
    record_who bytea[] DEFAULT '{}', record_kind bytea[] DEFAULT '{}', record_link bytea[] DEFAULT '{}',
    record_text bytea[] DEFAULT '{}',
    row_key bytea[] DEFAULT '{}', row_version bigint[] DEFAULT '{}', row_aside_us bigint[] DEFAULT '{}',
    row_revision bigint[] DEFAULT '{}', row_status text[] DEFAULT '{}', row_reason bytea[] DEFAULT '{}',
    row_lane smallint[] DEFAULT '{}', row_due_us bigint[] DEFAULT '{}', row_pending_since_us bigint[] DEFAULT '{}',
    row_conflicts bigint[] DEFAULT '{}', row_attempts bigint[] DEFAULT '{}',
    desired_key bytea[] DEFAULT '{}', desired_text bytea[] DEFAULT '{}',
    releasing boolean DEFAULT false,   -- these rows are ends of attempts: nobody has their documents any more
    agreement_key bytea[] DEFAULT '{}', agreement_version bigint[] DEFAULT '{}', agreement_text bytea[] DEFAULT '{}',
    position_topic bytea[] DEFAULT '{}', position_partition integer[] DEFAULT '{}',
    position_offset bigint[] DEFAULT '{}', position_anchor bigint[] DEFAULT '{}', position_digest text[] DEFAULT '{}',
    position_since bigint[] DEFAULT '{}',  -- where reading began; NULL: nobody else reads there
    forget_topic bytea[] DEFAULT '{}', forget_partition integer[] DEFAULT '{}',
    superseded_key bytea[] DEFAULT '{}', superseded_count bigint[] DEFAULT '{}',
    superseded_last bytea[] DEFAULT '{}',
    letter_id bytea[] DEFAULT '{}', letter_status text[] DEFAULT '{}', letter_clock boolean[] DEFAULT '{}',
    letter_outline bytea[] DEFAULT '{}', letter_text bytea[] DEFAULT '{}', letter_message bytea[] DEFAULT '{}',
    mark_id bytea[] DEFAULT '{}', mark_status text[] DEFAULT '{}',
    close_id bytea[] DEFAULT '{}', close_at_us bigint[] DEFAULT '{}',
    open_id bytea[] DEFAULT '{}', open_document bytea[] DEFAULT '{}', open_at_us bigint[] DEFAULT '{}',
    open_text bytea[] DEFAULT '{}',
    spot_hour bigint[] DEFAULT '{}', spot_kind text[] DEFAULT '{}', spot_name bytea[] DEFAULT '{}',
    spot_conflicts bigint[] DEFAULT '{}', spot_attempts bigint[] DEFAULT '{}',
    forget_hour bigint DEFAULT NULL,   -- and all before
    message_bucket smallint[] DEFAULT '{}', message_text bytea[] DEFAULT '{}',
    published bigint[] DEFAULT '{}',
    signed bytea DEFAULT NULL,
    cut_after bigint DEFAULT NULL, cut_last bigint DEFAULT NULL, cut_link bytea DEFAULT NULL,  -- noted by the first record
    cut_text bytea DEFAULT NULL,
    pruned_conflict bytea[] DEFAULT '{}', pruned_closed_at_us bigint[] DEFAULT '{}',
    pruned_letter bytea[] DEFAULT '{}', pruned_status text[] DEFAULT '{}',
    OUT answer text
) LANGUAGE plpgsql AS $$
DECLARE
    refold_lock CONSTANT bigint := 8243107301;
    span CONSTANT bigint := 1000000000000;
    made bigint := 0;
    kept bigint;
    moved boolean;
BEGIN
    -- A guest, too: whoever evicts the slot's holder has its row locked before it gets to the documents.
    PERFORM FROM slot s WHERE s.id = by_slot AND (by_epoch IS NULL OR s.epoch = by_epoch) FOR KEY SHARE;
    IF NOT FOUND THEN answer := 'fenced'; RETURN; END IF;
    -- Asked each time: behind a pooler, one connection may lead to another server from one statement to the next.
    IF by_generation <> (SELECT generation FROM control) OR by_identity <> identity_1() THEN
        answer := 'replaced'; RETURN;
    END IF;
    IF by_policy <> (SELECT coalesce(policy_digest, '') FROM control) THEN answer := 'outdated'; RETURN; END IF;
    IF by_stops <> (SELECT stops FROM control) THEN answer := 'stops'; RETURN; END IF;
    IF stops_seen IS NOT NULL THEN
        PERFORM FROM control c WHERE c.stops = stops_seen FOR NO KEY UPDATE;
        IF NOT FOUND THEN answer := 'stops'; RETURN; END IF;
    END IF;

    IF cut_last IS NOT NULL THEN
        LOCK TABLE cut IN SHARE ROW EXCLUSIVE MODE;
        IF cut_after <> (
            SELECT coalesce(max(last), cut_after / span * span) FROM cut
            WHERE last >= cut_after / span * span AND last < (cut_after / span + 1) * span
        ) OR NOT EXISTS (
            SELECT FROM audit WHERE number = cut_last + 1
            UNION ALL SELECT FROM checkpoint WHERE number = cut_last + 1
        ) THEN answer := 'cut'; RETURN; END IF;
    END IF;
    IF refolds_seen IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock_shared(refold_lock);
        IF refolds_seen <> (SELECT coalesce(max(number), 0) FROM refold) THEN answer := 'refolded'; RETURN; END IF;
    END IF;
    IF refold_key IS NOT NULL THEN
        -- After every fold under way, whose positions show, or before it, and then it sees a new number.
        PERFORM pg_advisory_xact_lock(refold_lock);
        PERFORM FROM unnest(limit_topic, limit_partition, limit_offset) AS l(topic, partition, upto)
            JOIN position p ON p.topic = l.topic AND p.partition = l.partition AND p.next_offset > l.upto;
        IF FOUND THEN answer := 'behind'; RETURN; END IF;
    END IF;

    SELECT count(*) > 0 INTO moved FROM unnest(seen_key, seen_version) AS s(key, version)
        LEFT JOIN (
            SELECT d.key, d.version FROM document d WHERE d.key = ANY (seen_key || record_document)
            ORDER BY d.key FOR NO KEY UPDATE
        ) AS present ON present.key = s.key
        WHERE coalesce(present.version, 0) <> s.version;
    IF moved THEN answer := 'moved'; RETURN; END IF;
    SELECT count(*) > 0 INTO moved FROM unnest(agreement_key, agreement_version) AS n(key, version)
        WHERE coalesce((SELECT a.version FROM agreement a WHERE a.key = n.key), 0) <> n.version;
    IF moved THEN answer := 'moved'; RETURN; END IF;

    IF fold_turn IS NOT NULL THEN
        PERFORM FROM folding f WHERE f.slot = by_slot AND f.turn = fold_turn FOR NO KEY UPDATE;
        IF NOT FOUND THEN answer := 'late'; RETURN; END IF;
    END IF;
    IF head_number IS NOT NULL THEN
        UPDATE slot s SET turn = s.turn + CASE WHEN head_turn IS NULL THEN 0 ELSE 1 END,
                chain_number = head_number + cardinality(record_link),
                chain_link = coalesce(record_link[cardinality(record_link)], head_link)
            WHERE s.id = by_slot AND s.chain_number = head_number AND s.chain_link = head_link
                AND (head_turn IS NULL OR s.turn = head_turn);
        IF NOT FOUND THEN answer := 'head'; RETURN; END IF;
    END IF;
    IF cardinality(record_link) > 0 THEN
        INSERT INTO audit (number, document, ordinal, at_us, target, who, kind, link, record)
            SELECT head_number + r.place, r.document,
                coalesce(d.ordinal, 0) + row_number() OVER (PARTITION BY r.document ORDER BY r.place),
                r.at_us, r.target, r.who, r.kind, r.link, r.text
            FROM unnest(record_document, record_at_us, record_target, record_who, record_kind, record_link, record_text)
                WITH ORDINALITY AS r(document, at_us, target, who, kind, link, text, place)
                LEFT JOIN document d ON d.key = r.document;
        UPDATE document d SET ordinal = d.ordinal + c.records FROM (
            SELECT r.document, count(*) AS records FROM unnest(record_document) AS r(document)
            WHERE r.document <> ALL (row_key) GROUP BY r.document
        ) AS c WHERE d.key = c.document;
    END IF;

    IF cardinality(row_key) > 0 THEN
        INSERT INTO document (key, version, aside_us, revision, status, reason, lane, due_us, pending_since_us,
                conflicts, attempts)
            SELECT r.* FROM unnest(row_key, row_version, row_aside_us, row_revision, row_status, row_reason, row_lane,
                row_due_us, row_pending_since_us, row_conflicts, row_attempts) AS r(key, version)
            WHERE r.version = 1 ORDER BY r.key ON CONFLICT (key) DO NOTHING;
        GET DIAGNOSTICS made = ROW_COUNT;
        IF made < (SELECT count(*) FROM unnest(row_version) AS v(version) WHERE v.version = 1) THEN
            -- Undoes all of it; called again, it answers that the row has moved.
            RAISE EXCEPTION 'a document was added meanwhile' USING ERRCODE = 'serialization_failure';
        END IF;
        UPDATE document d SET version = r.version, aside_us = r.aside_us, revision = r.revision, status = r.status,
                reason = r.reason, lane = r.lane, due_us = r.due_us, pending_since_us = r.pending_since_us,
                conflicts = r.conflicts, attempts = r.attempts, ordinal = d.ordinal + coalesce(c.records, 0),
                holder = CASE WHEN releasing THEN NULL ELSE d.holder END
            FROM unnest(row_key, row_version, row_aside_us, row_revision, row_status, row_reason, row_lane,
                    row_due_us, row_pending_since_us, row_conflicts, row_attempts)
                AS r(key, version, aside_us, revision, status, reason, lane, due_us, pending_since_us, conflicts, attempts)
                LEFT JOIN (
                    SELECT m.document, count(*) AS records FROM unnest(record_document) AS m(document) GROUP BY m.document
                ) AS c ON c.document = r.key
            WHERE r.version > 1 AND d.key = r.key;
    END IF;
    IF fold_turn IS NOT NULL THEN
        UPDATE folding f SET turn = f.turn + 1, documents = f.documents + made WHERE f.slot = by_slot;
    END IF;
    IF cardinality(desired_key) > 0 THEN
        INSERT INTO desired AS d (key, folds, desired)
            SELECT n.key, 1, n.text FROM unnest(desired_key, desired_text) AS n(key, text)
            ON CONFLICT (key) DO UPDATE SET desired = excluded.desired, folds = d.folds + 1;
    END IF;
    IF cardinality(agreement_key) > 0 THEN
        INSERT INTO agreement AS a (key, version, agreement)
            SELECT n.key, 1, n.text FROM unnest(agreement_key, agreement_text) AS n(key, text)
            ON CONFLICT (key) DO UPDATE SET agreement = excluded.agreement, version = a.version + 1;
    END IF;

    IF refold_key IS NOT NULL THEN
        INSERT INTO refold (document, number) SELECT refold_key, coalesce(max(number), 0) + 1 FROM refold
            ON CONFLICT (document) DO UPDATE SET number = excluded.number;
    END IF;
    IF cardinality(forget_topic) > 0 THEN
        DELETE FROM position p USING unnest(forget_topic, forget_partition) AS f(topic, partition)
            WHERE p.topic = f.topic AND p.partition = f.partition;
    END IF;
    IF cardinality(position_topic) > 0 THEN
        -- A position may move past offsets without a record; the last record stays the same.
        INSERT INTO position AS p (topic, partition, next_offset, anchor_offset, anchor_digest)
            SELECT * FROM unnest(position_topic, position_partition, position_offset, position_anchor, position_digest)
                AS n(topic, partition) ORDER BY n.topic, n.partition
            ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset,
                anchor_offset = coalesce(excluded.anchor_offset, p.anchor_offset),
                anchor_digest = CASE WHEN excluded.anchor_offset IS NULL THEN p.anchor_digest
                    ELSE excluded.anchor_digest END
            WHERE p.next_offset = coalesce((
                SELECT n.since FROM unnest(position_topic, position_partition, position_since)
                    AS n(topic, partition, since) WHERE n.topic = p.topic AND n.partition = p.partition
            ), p.next_offset);
        GET DIAGNOSTICS kept = ROW_COUNT;
        IF kept <> cardinality(position_topic) THEN
            RAISE EXCEPTION 'the positions are not those at which reading began' USING ERRCODE = 'RC001';
        END IF;
    END IF;
    IF cardinality(superseded_key) > 0 THEN
        INSERT INTO superseded AS s (document, count, last)
            SELECT n.* FROM unnest(superseded_key, superseded_count, superseded_last) AS n(document, count, last)
            ORDER BY n.document
            ON CONFLICT (document) DO UPDATE SET count = s.count + excluded.count, last = excluded.last;
    END IF;

    IF cardinality(letter_id) > 0 THEN
        -- One at a time, so that numbers appear in their order: whoever has read up to one misses none.
        LOCK TABLE dead_letter IN SHARE ROW EXCLUSIVE MODE;
        WITH fresh AS (
            SELECT DISTINCT ON (n.id) n.* FROM unnest(letter_id, letter_status, letter_clock, letter_outline,
                letter_text, letter_message) WITH ORDINALITY AS n(id, status, clock, outline, text, message, place)
            WHERE NOT EXISTS (SELECT FROM dead_letter known WHERE known.id = n.id) ORDER BY n.id, n.place
        ), buried AS (
            INSERT INTO dead_letter (number, id, status, clock, outline, letter)
                SELECT (SELECT coalesce(max(number), 0) FROM dead_letter) + row_number() OVER (ORDER BY place),
                    f.id, f.status, f.clock, f.outline, f.text
                FROM fresh f
        )
        INSERT INTO outbox (bucket, message)
            SELECT 0, f.message FROM fresh f WHERE f.message IS NOT NULL ORDER BY f.place;
    END IF;
    IF cardinality(mark_id) > 0 THEN
        UPDATE dead_letter l SET status = m.status FROM unnest(mark_id, mark_status) AS m(id, status) WHERE l.id = m.id;
    END IF;

    IF cardinality(close_id) > 0 THEN
        UPDATE conflict c SET closed_at_us = n.at_us
            FROM (SELECT id, min(at_us) AS at_us FROM unnest(close_id, close_at_us) AS u(id, at_us) GROUP BY id) AS n
            WHERE c.id = n.id AND c.closed_at_us IS NULL;
    END IF;
    IF cardinality(open_id) > 0 THEN
        -- A conflict that is still open keeps the time when it opened; one that was closed opens again.
        INSERT INTO conflict AS c (id, document, opened_at_us, conflict)
            SELECT DISTINCT ON (n.id) n.id, n.document, n.at_us, n.text
                FROM unnest(open_id, open_document, open_at_us, open_text) WITH ORDINALITY
                    AS n(id, document, at_us, text, place) ORDER BY n.id, n.place
            ON CONFLICT (id) DO UPDATE SET document = excluded.document, opened_at_us = excluded.opened_at_us,
                closed_at_us = NULL, conflict = excluded.conflict
            WHERE c.closed_at_us IS NOT NULL;
    END IF;
    IF cardinality(spot_hour) > 0 THEN
        INSERT INTO contention AS c (field, conflicts, attempts)
            SELECT n.name, sum(n.conflicts), sum(n.attempts)
                FROM unnest(spot_kind, spot_name, spot_conflicts, spot_attempts) AS n(kind, name, conflicts, attempts)
                WHERE n.kind = 'field' GROUP BY n.name ORDER BY n.name
            ON CONFLICT (field) DO UPDATE SET conflicts = c.conflicts + excluded.conflicts,
                attempts = c.attempts + excluded.attempts;
        INSERT INTO contention_hour AS c (hour, kind, name, conflicts, attempts)
            SELECT n.hour, n.kind, n.name, sum(n.conflicts), sum(n.attempts)
                FROM unnest(spot_hour, spot_kind, spot_name, spot_conflicts, spot_attempts)
                    AS n(hour, kind, name, conflicts, attempts)
                GROUP BY n.hour, n.kind, n.name ORDER BY n.hour, n.kind, n.name
            ON CONFLICT (hour, kind, name) DO UPDATE SET conflicts = c.conflicts + excluded.conflicts,
                attempts = c.attempts + excluded.attempts;
    END IF;
    IF forget_hour IS NOT NULL THEN
        DELETE FROM contention_hour c WHERE c.hour <= forget_hour;
    END IF;

    IF cardinality(message_text) > 0 THEN
        INSERT INTO outbox (bucket, message) SELECT n.bucket, n.text
            FROM unnest(message_bucket, message_text) WITH ORDINALITY AS n(bucket, text, place) ORDER BY n.place;
    END IF;
    IF cardinality(published) > 0 THEN
        DELETE FROM outbox o WHERE o.number = ANY (published);
    END IF;
    IF stops_seen IS NOT NULL THEN
        UPDATE control SET stops = stops_seen + 1, stop = stop_text;
    END IF;
    IF signed IS NOT NULL THEN
        INSERT INTO signing (one, noted) VALUES (1, signed) ON CONFLICT (one) DO UPDATE SET noted = excluded.noted;
    END IF;

    IF cut_last IS NOT NULL THEN
        INSERT INTO cut (last, link, act, cut) VALUES (cut_last, cut_link, head_number + 1, cut_text);
    END IF;
    IF cardinality(pruned_conflict) > 0 THEN
        DELETE FROM conflict c USING unnest(pruned_conflict, pruned_closed_at_us) AS p(id, at_us)
            WHERE c.id = p.id AND c.closed_at_us = p.at_us;
    END IF;
    IF cardinality(pruned_letter) > 0 THEN
        DELETE FROM dead_letter l USING unnest(pruned_letter, pruned_status) AS p(id, status)
            WHERE l.id = p.id AND l.status = p.status;
    END IF;
    answer := 'done';
END $$;

-- Counts a document that a comparison is about to write to, and answers 0; or how many seconds it has to wait for room.
-- One caller at a time, so that all replicas together never write to more documents in any window. If this server's clock
-- was ahead, what it has counted then is counted anew.
CREATE FUNCTION spend_1(asked bytea, documents_max bigint, window_s float8, OUT wait_s float8) LANGUAGE plpgsql AS $$
DECLARE
    budget_lock CONSTANT bigint := 8243107302;
    moment timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(budget_lock);
    moment := clock_timestamp();
    UPDATE spent SET since = moment WHERE since > moment;
    DELETE FROM spent WHERE since <= moment - make_interval(secs => window_s);
    IF (SELECT count(*) FROM spent) < documents_max THEN
        INSERT INTO spent VALUES (asked, moment) ON CONFLICT DO NOTHING;
    END IF;
    SELECT CASE WHEN bool_or(document = asked) THEN 0
        ELSE extract(epoch FROM min(since) - moment) + window_s END INTO wait_s FROM spent;
END $$;
