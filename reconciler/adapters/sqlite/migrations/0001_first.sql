-- Everything that has a shape of its own (desired state, agreements, audit records, messages) is one blob of canonical
-- JSON made by `reconciler.model.codec`. A column exists only for what SQL has to search, order, add up or change.

-- One row a document. WITH rowid: rows are a few kilobytes, and a tree of them in random key order costs twice as much.
-- Small columns come first, because reading past a large blob means following its overflow pages.
-- Rows are never deleted, so the greatest rowid is the number of documents.
CREATE TABLE document (
    key TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,         -- 0: known only from an outcome log, never folded
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    lane INTEGER NOT NULL,
    due_us INTEGER,                    -- NULL: not until something changes
    pending_since_us INTEGER,
    conflicts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    desired BLOB NOT NULL,
    agreement BLOB                     -- NULL: nothing was ever agreed
);

-- What is due, most urgent lane first. It holds the key so that a look at the queue never touches the table.
CREATE INDEX document_by_due ON document (lane, due_us, key) WHERE due_us IS NOT NULL;
-- What is not settled. Synced documents, nearly all of them, stay out: that keeps counting and every settlement cheap.
CREATE INDEX document_by_status ON document (status, key) WHERE status <> 'synced';
CREATE INDEX document_by_pending ON document (pending_since_us) WHERE pending_since_us IS NOT NULL;
CREATE INDEX document_by_conflicts ON document (conflicts DESC, key) WHERE conflicts > 0;

-- The next offset to fold; written in the transactions that fold.
CREATE TABLE position (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID;

-- AUTOINCREMENT: a number is never given twice, so a message that was published can't be mistaken for a later one.
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message BLOB NOT NULL
);

CREATE TABLE dead_letter (
    number INTEGER PRIMARY KEY,        -- the order in which they were refused
    id TEXT NOT NULL UNIQUE,           -- topic/partition/offset
    status TEXT NOT NULL,
    letter BLOB NOT NULL
);
CREATE INDEX dead_letter_by_status ON dead_letter (status);

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX audit_by_document ON audit (document, at_us);
CREATE INDEX audit_by_time ON audit (at_us);

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

CREATE TABLE policy (
    digest TEXT NOT NULL PRIMARY KEY,
    policy BLOB NOT NULL
) WITHOUT ROWID;
