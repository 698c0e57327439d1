-- The audit trail becomes a chain (`reconciler.model.chain`), and one that grows at its end only.
--
-- The table is made anew so that the link stands before the record: reading past a large blob means following its
-- overflow pages, and the newest link is looked at in every commit. `chain_link` is a function of the program that
-- brings the schema up to date: it takes the records one by one and refuses any other order than that of their numbers.
CREATE TABLE chained (
    id INTEGER PRIMARY KEY,            -- given by the chain: 1, 2, 3, …
    document TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    link BLOB NOT NULL,
    record BLOB NOT NULL
);
INSERT INTO chained (id, document, at_us, link, record)
SELECT id, document, at_us, chain_link(id, record), record FROM audit ORDER BY id;
DROP TABLE audit;
ALTER TABLE chained RENAME TO audit;
CREATE INDEX audit_by_document ON audit (document, at_us);
CREATE INDEX audit_by_time ON audit (at_us);

-- No statement of the program changes the trail. These keep everybody else from doing so by mistake; whoever means to
-- can drop them, and is found by verifying the chain.
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- Also against INSERT OR REPLACE, which deletes without running the trigger above.
CREATE TRIGGER audit_has_no_gaps BEFORE INSERT ON audit
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM audit) BEGIN
    SELECT RAISE(ABORT, 'audit records are numbered without gaps');
END;
