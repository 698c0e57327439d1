"""
Evidence: what is left when all processes are gone, put so that it can be compared.

From the server's history every version of every document is put together again; from the topic, read back with a plain
consumer, every event with its place. Neither comes from the program.
"""

import json
import pickle
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import attrs
from aiokafka import AIOKafkaConsumer

from reconciler.config import Config
from reconciler.model import codec, instant
from reconciler.model.policy import Policy
from reconciler.model.value import canonical
from reconciler.simulator import fields, history
from reconciler.simulator.history import Entry
from tests.crash.plan import KEYWORDS
from tests.crash.workload import Producers
from tests.sim.naive import Fact
from tests.sim.server import changed_parts

ME = "integration"
_FIRST = "v1.1.1"  # the token of a document that no one has changed yet


@attrs.frozen
class Topical:
    """One record of a topic, as a consumer gets it."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@attrs.frozen
class Version:
    """A document at one moment; `touched` says for each part of it in which version and by whom it was last changed."""

    number: int
    token: str | None
    fields: Mapping[str, Any]
    who: str
    at_us: int
    others_at_us: int  # when anyone but us last changed the document
    touched: Mapping[tuple[str, str], tuple[int, str]]


@attrs.define
class Chain:
    """All versions of one document, in order."""

    versions: list[Version]
    by_token: dict[str | None, Version] = attrs.field(factory=dict)

    def after(self, entry: Entry) -> Version:
        return self.by_token[entry.after]


@attrs.frozen
class Evidence:
    """Everything that is judged."""

    config: Config
    policies: dict[str, Policy]  # by digest: those that the configurations gave, and no others
    history: list[Entry]
    chains: dict[str, Chain]
    changes: list[Topical]
    outcomes: list[dict[str, Any]]  # each id once, in the order of its first record
    outcome_records: list[Topical]
    letters: list[Topical]
    facts: dict[str, list[Fact]]  # by document, in the order of their offsets
    poison: dict[tuple[int, int], bytes]  # by partition and offset
    missing: set[str]  # ids of events that the broker has acknowledged and no one finds again

    @classmethod
    async def gathered(
        cls,
        *,
        config: Config,
        policies: list[Policy],
        initial: Mapping[str, Mapping[str, Any]],
        history: list[Entry],
        producers: Producers,
    ) -> Self:
        """Read everything back."""
        brokers, log = list(config.log.brokers), config.log
        changes, decisions, outcome_records, letters = [
            await read(brokers, topic)
            for topic in (log.topic, log.decisions_topic, log.outcomes_topic, log.dead_letter_topic)
        ]
        told = [json.loads(record.value or b"") for record in outcome_records]
        unusable = producers.poison
        poison = {(r.partition, r.offset): r.value for r in changes if r.value is not None and r.value in unusable}
        facts, seen = _facts(changes, log.topic, producers.poison | producers.foreign)
        for key, said in _facts(decisions, log.decisions_topic, set())[0].items():
            facts.setdefault(key, []).extend(said)
        return cls(
            config=config,
            policies={codec.policy_digest(policy): policy for policy in policies},
            history=history,
            chains=_chains(initial, history),
            changes=changes,
            outcomes=list({one["id"]: one for one in reversed(told)}.values())[::-1],
            outcome_records=outcome_records,
            letters=letters,
            facts=facts,
            poison=poison,
            missing=producers.ids - seen,
        )

    def keep(self, folder: Path) -> None:
        """Put it beside the store, for whoever has to find out what went wrong."""
        (folder / "evidence.pickle").write_bytes(pickle.dumps(self))  # to judge it again
        shown = [history.as_json(entry) for entry in self.history]
        (folder / "history.json").write_text("\n".join(map(json.dumps, shown)))
        for name, records in (("changes", self.changes), ("outcomes", self.outcome_records), ("letters", self.letters)):
            lines = [[r.partition, r.offset, (r.value or b"").decode(errors="replace")] for r in records]
            (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))


async def read(brokers: list[str], topic: str) -> list[Topical]:
    """Everything that a topic holds, by partition and offset."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers, group_id=None, auto_offset_reset="earliest")
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[Topical] = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [
                    Topical(r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records
                ]
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


def _facts(records: Iterable[Topical], topic: str, unusable: set[bytes]) -> tuple[dict[str, list[Fact]], set[str]]:
    facts: dict[str, list[Fact]] = {}
    seen: set[str] = set()
    for record in records:
        place = (topic, record.partition, record.offset)
        key = (record.key or b"").decode()
        if record.value is None:
            at = instant.from_us(record.timestamp * 1000)
            rank = (at, "", *place, f"//kafka/{topic}", f"{record.partition}/{record.offset}")
            facts.setdefault(key, []).append(Fact(key, rank, released=True))
        elif record.value not in unusable:
            event = json.loads(record.value)
            data = event["data"]
            seen.add(event["id"])
            facts.setdefault(key, []).append(
                Fact(
                    key=event["subject"],
                    rank=(event["time"], event.get("sequence", ""), *place, event["source"], event["id"]),
                    set=data.get("set", {}),
                    add=data.get("add", {}),
                    remove=data.get("remove", {}),
                    release=tuple(data.get("release", ())),
                    expect=data.get("expect", {}),
                    released="released" in event["type"],
                )
            )
    return facts, seen


def _chains(initial: Mapping[str, Mapping[str, Any]], entries: Iterable[Entry]) -> dict[str, Chain]:
    chains = {key: _beginning(document) for key, document in initial.items()}
    for entry in entries:
        chain = chains[entry.document]
        old = chain.versions[-1]
        assert entry.before == old.token, "a history with gaps proves nothing"
        touched = dict(old.touched)
        for name, (before, after) in entry.changes.items():
            parts = changed_parts(KEYWORDS, before, after) if name == KEYWORDS else [(name, "")]
            touched |= dict.fromkeys(parts, (old.number + 1, entry.who))
        at_us = _us(entry.time)
        others_at_us = old.others_at_us if entry.who == ME else at_us
        now = {**old.fields, **{name: after for name, (_, after) in entry.changes.items()}}
        new = Version(old.number + 1, entry.after, now, entry.who, at_us, others_at_us, touched)
        chain.versions.append(new)
        chain.by_token[entry.after] = new
    return chains


def _beginning(document: Mapping[str, Any]) -> Chain:
    modified_us = instant.to_us(instant.canonical(document["modifiedOn"]))
    first = Version(0, _FIRST, dict(fields.leaves(document)), "", modified_us, modified_us, {})
    return Chain([first], {_FIRST: first})


def _us(moment: datetime) -> int:
    return instant.to_us(moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same JSON."""
    return canonical(left) == canonical(right)
