-- Events that changed nothing on arrival: how many there were of each document, and the last one.
CREATE TABLE superseded (
    document TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    last BLOB NOT NULL
) WITHOUT ROWID;
