-- Documents that were folded again from the log, by the number of the last time. A fold that read rows before such a time
-- must not write them after it, so each fold says up to which number it has seen.
CREATE TABLE refold (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    document TEXT NOT NULL UNIQUE
);
