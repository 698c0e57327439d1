"""
Decode, the fast way: for the usual record, a valid structured event that sets fields to plain values.

Rules of this file:
1. `decode.record` gives the very same event for each record that is decoded here. Any record may be left to
   `decode.record`, and every invalid one must be, because only there the reason is found.
2. Records come in slices, and one call checks a slice as a whole where it can: a replay spends half its time here, and
   that takes a third less than checking record by record.

Theory of operation: the limits of an envelope are in its type, so that decoding checks them in C. Other checks are made
for the slice as a whole (field names are few, times all look alike); if one of them fails, the whole slice is left to
`decode.record`.
"""

import functools
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Annotated, Literal

import msgspec

from reconciler.core.events import decode, profile, timing
from reconciler.core.events.part import ALL
from reconciler.model import instant
from reconciler.model.event import Event, Record
from reconciler.model.policy import OPERATORS

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=decode.TEXT_LENGTH_MAX)]
_TextOrNone = Annotated[str, msgspec.Meta(max_length=decode.TEXT_LENGTH_MAX)] | None
_Number = Annotated[int, msgspec.Meta(ge=-profile.NUMBER_MAX, le=profile.NUMBER_MAX)]
_Place = Annotated[int, msgspec.Meta(ge=0, le=profile.NUMBER_MAX)] | None
_Fields = dict[str, str | _Number | float | bool | None]


class _Data(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    set: Annotated[_Fields, msgspec.Meta(min_length=1, max_length=decode.FIELDS_MAX)]
    reason: _TextOrNone = None


class _Envelope(msgspec.Struct, frozen=True, gc=False):
    specversion: Literal["1.0"]
    id: _Text
    source: _Text
    type: Literal["windchill.document.changed.v1"]
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=decode.KEY_LENGTH_MAX)]
    time: str
    data: _Data
    datacontenttype: Literal["application/json"] | None = None
    sequence: _TextOrNone = None
    actor: _TextOrNone = None
    kafkatopic: _TextOrNone = None
    kafkapartition: _Place = None
    kafkaoffset: _Place = None
    recordedtime: _Text | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode
_topic, _place = attrgetter("topic"), attrgetter("topic", "partition", "offset")
_source, _kafkatopic = attrgetter("source"), attrgetter("kafkatopic")
_timestamp, _recordedtime = attrgetter("timestamp"), attrgetter("recordedtime")
_archived_place = attrgetter("kafkatopic", "kafkapartition", "kafkaoffset")
_MARKS = "0000-00-00T00:00:00.000000Z"  # of a time in canonical form; the zeros are digits
_NONE = {None}
# Building the tuple in C: the generated `__new__` of a named tuple costs twice as much.
_new_event = functools.partial(tuple.__new__, Event)
_check_field = functools.lru_cache(maxsize=16_384)(profile.check_field)  # bounded: names come from outside


def events(
    records: Sequence[Record], options: decode.Options, present: timing.Present = timing.READ_BEFORE
) -> tuple[list[Event], list[Record]]:
    """
    Decode usual records; return their events, and the records left to `decode.record`, both in order.

    Records in neither are of another part of the log (`Options.part`).
    """
    if options.by_position or options.sources_restricted:
        return [], list(records)
    taken, envelopes, left = _envelopes(records, options.record_bytes_max)
    if options.signed is not None and any(one.source == OPERATORS for one in envelopes):  # signatures are checked there
        return [], list(records)
    try:
        events = _events(taken, envelopes, options, present)
    except (ValueError, OverflowError, profile.Invalid):  # something odd: each record by itself
        return [], list(records)
    if options.part != ALL:
        events = [event for event in events if options.part.has(event.key, event.source)]
    return events, left


def _envelopes(records: Sequence[Record], bytes_max: int) -> tuple[list[Record], list[_Envelope], list[Record]]:
    """Return the records with a usual envelope, their envelopes, and the other records."""
    taken: list[Record] = []
    envelopes: list[_Envelope] = []
    left: list[Record] = []
    for record in records:
        value, headers = record.value, record.headers
        try:
            if value is None or len(value) > bytes_max or (headers and not decode.is_structured(tuple(headers))):
                left.append(record)
            else:
                if not value.isascii():
                    decode.check_text(value)
                envelopes.append(_envelope(value))
                taken.append(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, profile.Invalid):
            left.append(record)
    return taken, envelopes, left


def _events(
    records: Sequence[Record], envelopes: Sequence[_Envelope], options: decode.Options, present: timing.Present
) -> list[Event]:
    """Return the events of usual envelopes; raise for anything odd."""
    names = set(chain.from_iterable([one.data.set for one in envelopes]))
    for name in names:
        _check_field(name)
    if profile.nested_problem(names) is not None:
        raise ValueError("a field and its group, perhaps in one event")
    times = _canonical([one.time for one in envelopes])
    _check_skew(times, records, envelopes, options)
    places = _places(records, envelopes, options)
    if envelopes and present.objects(max(times), places):
        raise ValueError("later than the present, or refused before")
    said_in = map(itemgetter(0), places) if options.vouched else map(_topic, records)
    for topic, source in set(zip(said_in, map(_source, envelopes), strict=True)):
        if options.topics.refusal(topic, source) is not None:
            raise ValueError("its source may not speak there")
    return [
        _new_event(
            (
                "",
                time,
                one.sequence or "",
                topic,
                partition,
                offset,
                one.source,
                one.id,
                one.actor or "",
                one.data.reason or "",
                one.data.set,
                one.subject,
                None,
            )
        )
        for one, time, (topic, partition, offset) in zip(envelopes, times, places, strict=True)
    ]


def _canonical(times: list[str]) -> list[str]:
    """Return times in canonical form; raises ValueError if one is invalid."""
    text = "".join(times)
    marks = all(text[at :: len(_MARKS)] == mark * len(times) for at, mark in enumerate(_MARKS) if mark != "0")
    if not marks or "T24" in text or not {len(_MARKS)}.issuperset(map(len, times)):
        return list(map(instant.canonical, times))
    deque(map(datetime.fromisoformat, times), maxlen=0)  # raises for the 30th of February, and for what is no digit
    return times


def _places(
    records: Sequence[Record], envelopes: Sequence[_Envelope], options: decode.Options
) -> list[tuple[str, int, int]]:
    """Return the place of each record; lines of an archive may name their own."""
    places = list(map(_place, records))
    if not options.archived or _NONE.issuperset(map(_kafkatopic, envelopes)):
        return places
    archived = map(_archived_place, envelopes)
    return [here if None in there else there for here, there in zip(places, archived, strict=True)]


def _check_skew(
    times: Sequence[str], records: Sequence[Record], envelopes: Sequence[_Envelope], options: decode.Options
) -> None:
    """Raise ValueError or `profile.Invalid` if an event may be later than its record allows."""
    recorded_us = [recorded_ms * 1000 for recorded_ms in map(_timestamp, records)]
    if options.archived and not _NONE.issuperset(map(_recordedtime, envelopes)):
        archived = map(_recordedtime, envelopes)
        recorded_us = [
            us if said is None else instant.to_us(instant.canonical(said))
            for us, said in zip(recorded_us, archived, strict=True)
        ]
    known_us = [us for us in set(recorded_us) if us > 0]  # lines of a file may have no recorded time
    if not known_us:
        return
    timing.latest_allowed(max(known_us), options.clock_skew_us_max)  # raises for a record from beyond the calendar
    # Nearly always even the latest event keeps the limit of the earliest record.
    if max(times) <= timing.latest_allowed(min(known_us), options.clock_skew_us_max):
        return
    for time, us in zip(times, recorded_us, strict=True):
        if us > 0 and time > timing.latest_allowed(us, options.clock_skew_us_max):
            raise ValueError("later than its record")
