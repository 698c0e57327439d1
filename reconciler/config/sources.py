"""Sources of events of another shape: each `[[source]]` with its tables → `core.events.mapping.Source`."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from reconciler.config.values import File, Filled, tables, text
from reconciler.core.events import expressions, framing, mapping, profile
from reconciler.model.event import is_ours

_TABLE_ROWS_MAX = 100_000
_COLUMNS = 2

Expression = Annotated[
    str, text(r"[\s\S]*\S[\s\S]*", 'a JMESPath expression, such as "issue.key"', lines=True), Meta(max_length=4096)
]


_Topic = Annotated[str, text(r"[A-Za-z0-9._-]{0,249}", "a topic's name, or empty for log.topic")]


class Pick(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"expression": "from"}):
    """Where a value comes from, in full."""

    expression: Annotated[Expression, Meta(description="The expression that finds it.")]
    table: Annotated[str, Meta(description="A table of the source that translates what was found.")] = ""
    clear: Annotated[bool, Meta(description="Whether null clears the field; otherwise null says nothing.")] = False


_PICKED = {"says": 'an expression, or { from = "an expression", table = "…", clear = true }', "lines": True}
Picked = Annotated[Expression | Pick, Meta(extra=_PICKED)]
_FIELDS = {"says": 'a table of field = "expression" or field = { from = "expression", table = "…" }', "lines": True}
Fields = Annotated[dict[str, Expression | Pick], Meta(extra=_FIELDS)]
_CONDITIONS = {"says": 'a table of field = "expression"', "lines": True}
_TABLES = {"says": "tables of text = value, where a value is a text, a number, true or false"}
_TEXTS = {"says": "a table of texts"}


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    A system whose events have another shape, and what they mean. Our own events need none. Expressions are JMESPath
    over the record's JSON value (docs/sources.md).
    """

    name: Annotated[str, text(r"[A-Za-z0-9._-]{1,64}", "a name: 1 to 64 letters, digits, '.', '_' or '-'")]
    """What commands and messages call it."""
    source: Filled
    """The `source` of its events, such as //sap/prod: rules of the policy may ask for it."""
    topic: _Topic = ""
    """Where its records come from; read besides `log.topic` or `[[log.topics]]`, and open to this source. Absent:
    `log.topic`. A log in files has one topic, so there this key has no effect."""
    headers: Annotated[dict[str, Filled], Meta(extra=_TEXTS)] = {}
    """Globs over the record's headers, such as ce_type = "com.sap.*"; all must match."""
    format: framing.Format = framing.JSON
    """What a record's value is: plain `json`; or `avro` or `json-schema` in a schema registry's wire format (extra
    `avro`, section `schemas`). Records in another form are left to the other sources of the topic."""
    input: Literal["value", "record"] = "value"
    """What expressions see: the record's `value`, or the whole `record`: value, key, headers, topic, timestamp."""
    when: Expression | msgspec.UnsetType = msgspec.UNSET
    """Only records for which this is true are taken. Records that no source takes are counted and skipped."""
    document: Picked
    """The document's key."""
    released: Expression | msgspec.UnsetType = msgspec.UNSET
    """If this is true, the record releases the whole document."""
    time: Picked | msgspec.UnsetType = msgspec.UNSET
    """When the change was made. Without it the record's timestamp counts, and a copy of a record is a new event: it can
    bring back an old value."""
    time_format: Filled = mapping.RFC_3339
    """`rfc3339`; `epoch_s`, `epoch_ms`, `epoch_us` or `epoch_ns` for whole numbers since 1970; or a pattern of Python's
    strptime, such as %Y-%m-%d %H:%M:%S."""
    time_zone: str = ""
    """The zone of times without an offset, such as Europe/Berlin. An hour that a change of clocks repeats counts as the
    first of the two."""
    id: Picked | msgspec.UnsetType = msgspec.UNSET
    """What tells two events of one time apart. Absent: the SHA-256 of the record's value."""
    sequence: Picked | msgspec.UnsetType = msgspec.UNSET
    """Ranks events of the same time. Digits are compared as a number."""
    actor: Picked | msgspec.UnsetType = msgspec.UNSET
    """Who made the change; a table can turn a user of that system into one of Windchill."""
    reason: Picked | msgspec.UnsetType = msgspec.UNSET
    """Why; shown with the value. The name and digest of the mapping follow it."""
    set: Fields = {}
    """Fields to set. An expression that finds nothing, or null, says nothing of its field, unless `clear` is true."""
    add: Fields = {}
    """Elements to add to lists."""
    remove: Fields = {}
    """Elements to remove from lists."""
    release: Annotated[dict[str, Expression], Meta(extra=_CONDITIONS)] = {}
    """Fields to stop managing, each with the condition for it."""
    tables: Annotated[dict[str, dict[str, mapping.Scalar]], Meta(extra=_TABLES)] = {}
    """Tables that translate values, such as FR = "RELEASED". A record with a value that is missing in a table becomes a
    dead letter that names the value."""
    table_files: Annotated[dict[str, File], Meta(extra=_TEXTS)] = {}
    """The same in CSV files: a first line with the columns' names, then a value and its translation on each line."""


KEYS = [field.name for field in msgspec.structs.fields(Row)]


def read(given: object, where: str, faults: list[str]) -> tuple[mapping.Source, ...]:
    """Return the sources of a `source` value that came from `where`; add what can't be used to `faults`."""
    rows = tables(given, Row, "source", where, faults)
    if faults:
        return ()
    known = framing.Schemas()
    found = [_source(Row(**row), f"{where}[{number}]", known, faults) for number, row in enumerate(rows, 1)]
    for name, count in Counter(row["name"] for row in rows).items():
        if count > 1:
            faults.append(f"{where}: two sources are named {name}; give each a name of its own")
    return () if faults else tuple(found)


def _source(row: Row, where: str, known: framing.Schemas, faults: list[str]) -> mapping.Source:
    made = _Made(where, faults)
    if is_ours(row.source):
        faults.append(f"{where}.source: {row.source} is the reconciler's own; name the system")
    tables = {name: dict(table) for name, table in row.tables.items()}
    for name, path in row.table_files.items():
        if name in tables:
            faults.append(f"{where}.table_files.{name}: there is a table of this name in {where}.tables; rename one")
        tables[name] = made.file(name, Path(path))
    made.known = frozenset(tables)
    definition: dict[str, object] = {
        key: msgspec.to_builtins(value)
        for key in KEYS
        if key not in ("tables", "table_files") and (value := getattr(row, key)) is not msgspec.UNSET
    }
    picks = {
        member: made.pick(member, value) for member in _ONE if (value := getattr(row, member)) is not msgspec.UNSET
    }
    several = {member: made.picks(member, getattr(row, member)) for member in ("set", "add", "remove")}
    made.time(row)
    if not any((row.set, row.add, row.remove, row.release, row.released)):
        faults.append(f"{where}: says nothing; give at least one of set, add, remove, release, released")
    return mapping.Source(
        name=row.name,
        source=row.source,
        topic=row.topic,
        format=row.format,
        schemas=known,
        headers=row.headers,
        whole=row.input == "record",
        when=made.condition("when", row.when),
        released=made.condition("released", row.released),
        time_format=row.time_format,
        zone=made.zone(row.time_zone),
        release={field: made.expression(f"release.{field}", text) for field, text in row.release.items()},
        tables=tables,
        definition=definition,
        **{**picks, **several},  # type: ignore[arg-type]  # named as the members are
    )


_ONE = ("document", "time", "id", "sequence", "actor", "reason")
_NOTHING = expressions.parsed("null")


class _Made:
    """What is made of one row; each fault is added with its key, and something takes its place."""

    def __init__(self, where: str, faults: list[str]) -> None:
        self._where, self._faults = where, faults
        self.known: frozenset[str] = frozenset()

    def fault(self, key: str, says: object) -> None:
        self._faults.append(f"{self._where}.{key}: {says}")

    def expression(self, key: str, given: str) -> expressions.Expression:
        try:
            return expressions.parsed(given)
        except ValueError as error:
            self.fault(key, error)
            return _NOTHING

    def condition(self, key: str, given: str | msgspec.UnsetType) -> expressions.Expression | None:
        return None if isinstance(given, msgspec.UnsetType) else self.expression(key, given)

    def pick(self, key: str, given: str | Pick) -> mapping.Pick:
        if isinstance(given, str):
            return mapping.Pick(self.expression(key, given))
        if given.table and given.table not in self.known:
            names = ", ".join(sorted(self.known)) or "none"
            self.fault(f"{key}.table", f"there is no table {given.table}; known are {names}")
        return mapping.Pick(self.expression(f"{key}.from", given.expression), given.table, given.clear)

    def picks(self, member: str, given: Mapping[str, str | Pick]) -> dict[str, mapping.Pick]:
        for field in given:
            try:
                profile.check_field(field)
            except profile.Invalid as error:
                self.fault(member, error)
        return {field: self.pick(f"{member}.{field}", value) for field, value in given.items()}

    def time(self, row: Row) -> None:
        form = row.time_format
        if form == mapping.RFC_3339 or form in mapping.EPOCHS:
            return
        if "%" not in form:
            self.fault(
                "time_format", f"must be rfc3339, {', '.join(mapping.EPOCHS)}, or a pattern with %, not {form!r}"
            )
        elif "%z" not in form and not row.time_zone:
            self.fault("time_format", "has no offset (%z), so it needs time_zone")

    def zone(self, name: str) -> ZoneInfo | None:
        if not name:
            return None
        try:
            return ZoneInfo(name)
        except (LookupError, OSError, ValueError):
            self.fault("time_zone", f"{name!r} is no time zone that this host knows, such as Europe/Berlin")
            return None

    def file(self, name: str, path: Path) -> dict[str, Any]:
        key = f"table_files.{name}"
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.reader(file) if row][1:]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            self.fault(key, f"{path} can't be read: {getattr(error, 'strerror', None) or error}")
            return {}
        if len(rows) > _TABLE_ROWS_MAX:
            self.fault(key, f"{path} has more than {_TABLE_ROWS_MAX} lines")
        found: dict[str, Any] = {}
        for number, row in enumerate(rows, 2):
            if len(row) != _COLUMNS:
                self.fault(
                    key, f"{path}, line {number}: has {len(row)} columns; each line has a value and its translation"
                )
                return {}
            if found.setdefault(row[0], row[1]) != row[1]:
                self.fault(key, f"{path}, line {number}: {row[0]!r} has another translation above")
        return found
