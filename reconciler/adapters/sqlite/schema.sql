-- Every structured value is one blob of canonical JSON, made by `reconciler.model.codec`; agreements, audit records and
-- messages are packed (`packing.py`). Only what SQL has to search, order, add up or change has a column.

-- The dictionary of packed blobs, for other programs: ours has it.
CREATE TABLE dictionary (
    text BLOB NOT NULL
);

-- A document is a row in each of the next three tables, under one number: so that a fold rewrites the desired state alone,
-- a settlement the agreement alone, and a look at the queue reads neither. All have a rowid: a tree of rows in random key
-- order costs twice as much. Rows are never deleted, so the greatest number is the number of documents.
CREATE TABLE document (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,         -- 0: known only from an outcome log, never folded
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    lane INTEGER NOT NULL,
    due_us INTEGER,                    -- NULL: not until something changes
    pending_since_us INTEGER,
    conflicts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    aside_us INTEGER                   -- a copy of the agreement's, for its index
);
-- Without a row: never folded.
CREATE TABLE desired (
    document INTEGER PRIMARY KEY,
    desired BLOB NOT NULL
);
-- Without a row: nothing was ever agreed.
CREATE TABLE agreement (
    document INTEGER PRIMARY KEY,
    agreement BLOB NOT NULL            -- packed: read and written once an attempt
);

-- Due documents, most urgent lane first. With the key, a look at the queue never touches the table.
CREATE INDEX document_by_due ON document (lane, due_us, key) WHERE due_us IS NOT NULL;
-- Documents that are not synced. The synced ones, nearly all, stay out: so counting and every settlement are cheap.
CREATE INDEX document_by_status ON document (status, key) WHERE status <> 'synced';
-- The longest pending documents of each status: people look for the oldest of one, and another may have a hundred
-- thousand. With the key, a list can go on after a row of the same moment.
CREATE INDEX document_by_waiting ON document (status, pending_since_us, key) WHERE pending_since_us IS NOT NULL;
-- Documents that were put aside, by time: notifications ask for the last ones each second.
CREATE INDEX document_by_aside ON document (status, aside_us, key) WHERE status IN ('parked', 'contended');
CREATE INDEX document_by_conflicts ON document (conflicts DESC, key) WHERE conflicts > 0;

-- Documents that were folded again from the log, each with the number of its last time. A fold that read its rows before
-- must not write them afterwards, so each fold says which number it has seen.
CREATE TABLE refold (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL UNIQUE
);

-- Events that changed nothing on arrival: their number and the last one of each document.
CREATE TABLE superseded (
    document TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    last BLOB NOT NULL
) WITHOUT ROWID;

-- The next offset to fold, and the last record that was read: it shows when another log has replaced this one. Written
-- in the transactions that fold.
CREATE TABLE position (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    anchor_offset INTEGER,             -- NULL: none was read yet
    anchor_digest TEXT NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- AUTOINCREMENT: no number is given twice, so a published message can't be mistaken for a later one.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL              -- packed MessagePack, because JSON would hold the value in Base64
);

CREATE TABLE dead_letter (
    number INTEGER PRIMARY KEY,        -- the order in which they were refused
    id TEXT NOT NULL UNIQUE,           -- topic/partition/offset
    status TEXT NOT NULL,
    letter BLOB NOT NULL
);
CREATE INDEX dead_letter_by_status ON dead_letter (status);
-- A record that the host's clock has refused stays refused, by its place: each replay asks for all of them.
CREATE INDEX dead_letter_by_clock ON dead_letter (id) WHERE json_extract(CAST(letter AS TEXT), '$.stage') = 'clock';

-- The audit trail: one chain (`reconciler.model.chain`) of decisions and people's actions, which only grows at its end.
-- The link comes before the record: reading past a large blob means following its overflow pages, and every commit reads
-- the newest link.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,            -- given by the chain: 1, 2, 3, …
    document TEXT NOT NULL,            -- empty: an action on none
    at_us INTEGER NOT NULL,
    target TEXT,                       -- of an action, as the next two; NULL: a decision
    who TEXT,
    kind TEXT,
    link BLOB NOT NULL,
    record BLOB NOT NULL               -- packed; the link is over the record itself
);
-- Each kind has its own indexes, so that neither is slower to list when there are many of the other.
CREATE INDEX decision_by_document ON audit (document, at_us) WHERE kind IS NULL;
CREATE INDEX decision_by_time ON audit (at_us) WHERE kind IS NULL;
CREATE INDEX act_by_time ON audit (at_us) WHERE kind IS NOT NULL;
CREATE INDEX act_by_number ON audit (id) WHERE kind IS NOT NULL;
CREATE INDEX act_by_document ON audit (document, id) WHERE kind IS NOT NULL;
CREATE INDEX act_by_target ON audit (target, id) WHERE kind IS NOT NULL;
CREATE INDEX act_by_who ON audit (who, id) WHERE kind IS NOT NULL;

-- No statement of the program changes the trail. These keep others from changing it by mistake; anyone can drop them, but
-- verifying the chain finds the change.
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
WHEN OLD.id > (SELECT coalesce(max(last), 0) FROM cut) BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- Compare and set: a writer has read the head, and is refused if another record has followed it. It also stops INSERT OR
-- REPLACE, which deletes without running the trigger above.
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM audit) BEGIN
    SELECT RAISE(ABORT, 'audit records are numbered without gaps');
END;

-- The pieces of the trail that were archived: their records, and no others, may be deleted.
CREATE TABLE cut (
    last INTEGER PRIMARY KEY,          -- the number of the piece's last record
    link BLOB NOT NULL,                -- the link of that record, which the next one follows
    act INTEGER NOT NULL,              -- the number of the record that tells of it
    cut BLOB NOT NULL
);
CREATE TRIGGER cut_is_never_changed BEFORE UPDATE ON cut BEGIN
    SELECT RAISE(ABORT, 'what was archived stays known');
END;
CREATE TRIGGER cut_is_never_deleted BEFORE DELETE ON cut BEGIN
    SELECT RAISE(ABORT, 'what was archived stays known');
END;

CREATE TABLE conflict (
    id TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    opened_at_us INTEGER NOT NULL,
    closed_at_us INTEGER,              -- NULL: open
    conflict BLOB NOT NULL
);
CREATE INDEX conflict_open ON conflict (opened_at_us, id) WHERE closed_at_us IS NULL;
CREATE INDEX conflict_by_time ON conflict (opened_at_us, id);

CREATE TABLE contention (
    field TEXT NOT NULL PRIMARY KEY,
    conflicts INTEGER NOT NULL,
    attempts INTEGER NOT NULL
) WITHOUT ROWID;

-- Version conflicts by the hour (`at_us` / 3,600,000,000), to find hot spots. Documents are counted from their first
-- conflict on: rows of all others would be most of the table. The hour comes first, so that the oldest rows are deleted
-- from one place.
CREATE TABLE contention_hour (
    hour INTEGER NOT NULL,
    kind TEXT NOT NULL,                -- document or field
    name TEXT NOT NULL,
    conflicts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (hour, kind, name)
) WITHOUT ROWID;

CREATE TABLE policy (
    digest TEXT NOT NULL PRIMARY KEY,
    policy BLOB NOT NULL
) WITHOUT ROWID;

-- Since when decisions and outcomes are signed (`reconciler.model.signing`): one row, or none while they are not.
CREATE TABLE signing (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    noted BLOB NOT NULL
);

-- By what the log is read (`reconciler.flows.reading`): one row, or none before the first start.
CREATE TABLE reading (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    said BLOB NOT NULL
);

-- Whether operators have stopped all writes: one row, or none if they never did.
CREATE TABLE write_stop (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,           -- counts the stops and their ends
    stop BLOB,                         -- NULL: writes go on
    obeyed INTEGER NOT NULL            -- the number of the stop that the owner obeys
);

-- Where this store has moved to, or is about to: one row, or none. Nobody uses a store that has one.
CREATE TABLE moved (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    place TEXT NOT NULL,
    move TEXT NOT NULL,                -- the name of the try, which the new place knows if it has everything
    done INTEGER NOT NULL              -- 0: perhaps it has not
);
