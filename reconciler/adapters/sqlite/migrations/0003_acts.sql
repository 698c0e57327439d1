-- What operators do, each act as a record of its own, chained as the audit trail is but under another tag
-- (`reconciler.model.chain`). Commands write here too, beside the daemon, so whoever writes says which record it follows.
CREATE TABLE act (
    id INTEGER PRIMARY KEY,            -- given by the chain: 1, 2, 3, …
    document TEXT NOT NULL,            -- empty: the act is on none
    target TEXT NOT NULL,
    who TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    link BLOB NOT NULL,
    record BLOB NOT NULL
);
CREATE INDEX act_by_document ON act (document, id);
CREATE INDEX act_by_target ON act (target, id);
CREATE INDEX act_by_who ON act (who, id);

-- As for the audit trail: see 0002_chain.sql.
CREATE TRIGGER act_is_never_changed BEFORE UPDATE ON act BEGIN
    SELECT RAISE(ABORT, 'the record of acts is append-only');
END;
CREATE TRIGGER act_is_never_deleted BEFORE DELETE ON act BEGIN
    SELECT RAISE(ABORT, 'the record of acts is append-only');
END;
CREATE TRIGGER act_has_no_gaps BEFORE INSERT ON act
WHEN NEW.id IS NOT (SELECT coalesce(max(id), 0) + 1 FROM act) BEGIN
    SELECT RAISE(ABORT, 'the records of acts are numbered without gaps');
END;
