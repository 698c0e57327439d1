-- When version conflicts happened, by the hour (`at_us` / 3,600,000,000): what hot spots are told from. Of documents only
-- those that have ever met one are counted: rows of all others would be most of the table. The hour comes first, so
-- that the oldest are forgotten in one place.
CREATE TABLE contention_hour (
    hour INTEGER NOT NULL,
    kind TEXT NOT NULL,                -- document or field
    name TEXT NOT NULL,
    conflicts INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    PRIMARY KEY (hour, kind, name)
) WITHOUT ROWID;
