-- The last record that was read of each partition, so that a log which was replaced by another one is recognised.
ALTER TABLE position ADD COLUMN anchor_offset INTEGER;  -- NULL: none was read since this column is there
ALTER TABLE position ADD COLUMN anchor_digest TEXT NOT NULL DEFAULT '';

-- What the host's clock has refused stays refused, by its place: each replay asks for all of them.
CREATE INDEX dead_letter_by_clock ON dead_letter (id) WHERE json_extract(CAST(letter AS TEXT), '$.stage') = 'clock';
