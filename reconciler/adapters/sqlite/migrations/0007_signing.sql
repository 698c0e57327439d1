-- From where on decisions and outcomes are signed (`reconciler.model.signing`): one row, or none while they are not.
CREATE TABLE signing (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    noted BLOB NOT NULL
);
