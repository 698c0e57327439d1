"""`reconciler policy`: the rules in force, and what another policy would have decided."""

from pathlib import Path
from typing import Any

import click
import msgspec

from reconciler import config as configuration
from reconciler import views
from reconciler.cli import framework, options, output, runtime, store_access
from reconciler.config import Config
from reconciler.core.explain.backtest import Backtest, Otherwise, Ruling, Unjudged
from reconciler.errors import UsageError
from reconciler.model import codec
from reconciler.model.chain import CHECKPOINTS, SPAN, Entry
from reconciler.model.policy import FALLBACK, ListMode, Policy, Strategy
from reconciler.model.value import MISSING
from reconciler.ports import Store

policy = framework.family("policy", "Show the rules, test others on past decisions, or have all replicas take them up.")

_SHOWN = 60  # characters of a value
_NAMED_MAX = 20  # records that can't be tested and are named; the rest are only counted
_TURN_COLUMNS = (
    output.Column("count", "fields", whole=True, right=True),
    output.Column("was", "was", whole=True),
    output.Column("was_rule", "rule then"),
    output.Column("would", "would be", whole=True),
    output.Column("would_rule", "rule now"),
)
_RULE_COLUMNS = (
    output.Column("name", "rule", whole=True),
    output.Column("fields", "fields", ", ".join),
    output.Column("strategy", "strategy", whole=True),
    output.Column("more", "and"),
)


@policy.subcommand("show", "reconciler policy show -c reconciler.toml")
@options.reporting
@options.configured()
def show(config: Config, form: str) -> None:
    """Show the rules in force, in order: the first that covers a field decides it, the last covers every field."""
    rows = [views.service.rule(rule) for rule in (*config.policy.rules, FALLBACK)]
    if form == "json":
        output.as_json(rows)
    else:
        output.table([msgspec.structs.asdict(row) | {"more": _more(row)} for row in rows], _RULE_COLUMNS)


@policy.subcommand("apply", "reconciler policy apply -c reconciler.toml")
@options.configured()
def apply(config: Config) -> None:
    """
    Have all replicas decide by this configuration's policy, if their store is on PostgreSQL.

    They take it up within seconds and decide again what it may decide otherwise. This is for going back to an earlier
    policy: a replica that starts with a policy that the store has seen before does not bring it back. A reconciler that
    has its store to itself decides by its own configuration; send it SIGHUP.
    """
    from reconciler.flows import reload

    async def put(store: Store) -> int:
        if store.shared is None:
            raise UsageError("this store has one reconciler, which decides by its own configuration: send it SIGHUP")
        return await reload.put_in_force(store.shared, codec.policy_digest(config.policy), config.policy)

    store_access.ask(config, put)
    output.line(f"Policy {codec.policy_digest(config.policy)} is in force.")


@policy.subcommand(
    "test",
    "reconciler policy test --policy new.toml --since 7d -c reconciler.toml",
    "reconciler policy test --policy new.toml --store sqlite:///copy.db -o json",
)
@click.option(
    "--policy", "file", type=options.FILE, required=True, help="TOML with [[policy]] tables; a whole configuration too."
)
@click.option("--document", default=None, metavar="DOC", help="Only decisions on this document.")
@click.option("--since", "since_us", type=options.Moment(), default=0, help="Only decisions from this time on.")
@click.option("--until", "until_us", type=options.Moment(), default=None, help="Only decisions before this time.")
@options.on_store
def test(config: Config, file: Path, document: str | None, since_us: int, *, until_us: int | None, form: str) -> int:
    """
    List past decisions that another policy would have made differently.

    Makes each recorded decision again on its own recorded inputs, under the policy of FILE. Consequences are not
    simulated: later decisions are tested on the history as it was. A decision that its own policy does not reproduce is
    not tested, but named and counted. A field that was ignored then can't be tested, since its value was not recorded.
    Exit code 0: no difference; 2: some decisions differ; 1: some records could not be tested.
    """
    testing = _Testing(configuration.policy_of(file), _Json() if form == "json" else _Lines())
    backtest = runtime.run(testing.run(config, document, since_us, until_us))
    if backtest.unjudged:
        return runtime.FAILED
    return runtime.CHANGES if backtest.differing else runtime.DONE


class _Lines:
    """Prints a line for each difference as it is found, so that nothing is kept in memory."""

    def differs(self, found: Otherwise) -> None:
        when, key = output.when(views.shape.at(found.at_us)), output.plain(found.document)
        sides = f"desired {_cut(found.desired)}, live {_cut(found.live)}"
        turn = f"{_said(found.was)} → {_said(found.would)}"
        print(f"{when}  {key}  {output.plain(found.field)}: {turn}; {sides}; audit {found.record}")

    def ends(self, backtest: Backtest) -> None:
        if backtest.turns:
            print()
            output.table(_turns(backtest), _TURN_COLUMNS)
            print()
        fields = output.counted(sum(backtest.turns.values()), "field")
        judged = output.counted(backtest.judged, "decision")
        otherwise = f"{fields} in {backtest.differing} of them would differ"
        output.line(f"{judged} tested: {otherwise if backtest.differing else 'none would differ'}.")
        if backtest.unjudged:
            output.line(f"{output.counted(backtest.unjudged, 'record')} could not be tested.")


class _Json:
    """Prints one JSON object, with its list of differences written as they are found."""

    def __init__(self) -> None:
        self._started = False

    def differs(self, found: Otherwise) -> None:
        print(",\n" if self._started else '{"differences": [\n', _compact(_row(found)), sep="", end="")
        self._started = True

    def ends(self, backtest: Backtest) -> None:
        begin = "\n]" if self._started else '{"differences": []'
        counts = _compact(_turns(backtest))
        told = f'"judged": {backtest.judged}, "differing": {backtest.differing}, "unjudged": {backtest.unjudged}'
        print(f'{begin}, "counts": {counts}, {told}}}')


class _Testing:
    """Tests the records of a store, oldest first, and reports as it goes."""

    def __init__(self, policy: Policy, report: _Lines | _Json) -> None:
        self._policy = policy
        self._report = report
        self._named = 0

    async def run(self, config: Config, document: str | None, since_us: int, until_us: int | None) -> Backtest:
        async with store_access.opened(config) as store:
            heads = await store.audit_heads()  # first: the policies read next cover all up to them
            backtest = Backtest(self._policy, await store.policy_texts())
            before = {head.chain: sum(one.records for one in heads if one.chain < head.chain) for head in heads}
            with output.progress("testing", sum(head.records for head in heads)) as tell:
                async for entry in store_access.chain(store, heads, document, since_us, until_us):
                    if entry.chain != CHECKPOINTS and _is_of(entry, since_us, until_us):
                        self._judge(backtest, entry)
                    if entry.number % store_access.PAGE == 0:
                        tell(before.get(entry.chain, 0) + entry.number % SPAN, None)
        self._report.ends(backtest)
        return backtest

    def _judge(self, backtest: Backtest, entry: Entry) -> None:
        found = backtest.judge(entry.number, entry.record)
        if not isinstance(found, Unjudged):
            for one in found:
                self._report.differs(one)
        elif self._named < _NAMED_MAX:
            self._named += 1
            kind = "action" if entry.record.startswith(b'{"act":') else "decision"
            of = "" if found.document is None else f" of {found.document}"
            runtime.warn(output.plain(f"{kind} {entry.number}{of} is not tested: {found.reason}"))


def _is_of(entry: Entry, since_us: int, until_us: int | None) -> bool:
    """Whether an entry is of a time: a clock that went back mixes entries of other times in."""
    at_us = entry.columns[1] if entry.columns else None  # none where it was damaged
    if not isinstance(at_us, int):
        return True
    return at_us >= since_us and (until_us is None or at_us < until_us)


def _more(row: views.service.Rule) -> str:
    """Return what a rule says besides fields and strategy."""
    told = [f"on_overlap = {row.on_overlap}"] if row.strategy == Strategy.MERGE else []
    told += [f"on_adopt = {row.on_adopt}"] if row.on_adopt else []
    told += [f"list = {row.list}"] if row.list != ListMode.ATOMIC else []
    told += [f"{key} = {', '.join(said)}" for key in ("normalise", "types", "sources") if (said := getattr(row, key))]
    return "; ".join(told)


def _compact(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _said(ruling: Ruling) -> str:
    writes = "" if ruling.writes is MISSING else f" {_cut(ruling.writes)}"
    holds = f", {output.counted(len(ruling.holds), 'element')} held" if ruling.holds else ""
    return f"{ruling.verb}{writes}{holds} ({output.plain(ruling.rule)}, {ruling.strategy})"


def _cut(value: object) -> str:
    text = output.of_json(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _row(found: Otherwise) -> dict[str, Any]:
    row = {
        "audit": found.record,
        "document": found.document,
        "field": found.field,
        "at": views.shape.at(found.at_us),
        "was": _ruling(found.was),
        "would": _ruling(found.would),
        "desired": found.desired,
        "live": found.live,
        "event": found.event,
        "source": found.source,
    }
    return {member: value for member, value in row.items() if value is not MISSING}


def _ruling(ruling: Ruling) -> dict[str, Any]:
    told = {"decision": ruling.verb, "rule": ruling.rule, "strategy": ruling.strategy, "reason": ruling.reason}
    return told | ({} if ruling.writes is MISSING else {"writes": ruling.writes})


def _turns(backtest: Backtest) -> list[dict[str, Any]]:
    return [turn._asdict() | {"count": count} for turn, count in backtest.turns.most_common()]
