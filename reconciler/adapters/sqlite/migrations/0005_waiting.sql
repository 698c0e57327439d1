-- What waits longest, by where it stands: whoever looks for what needs a person wants the oldest of each, and there may be
-- a hundred thousand of another. It holds the key, so that a list goes on after a row of the same moment.
DROP INDEX document_by_pending;
CREATE INDEX document_by_waiting ON document (status, pending_since_us, key) WHERE pending_since_us IS NOT NULL;
