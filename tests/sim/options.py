"""What one seed fixes before anything happens: policies, the shape of the server, and how often each fault strikes."""

import random
from collections.abc import Mapping
from typing import Any, Literal

import attrs

from reconciler.model.event import ChangeTopic
from reconciler.model.policy import Adopt, ListMode, Normaliser, Policy, Rule, Strategy
from tests.sim.logs import LINE, MIRRORS, RENAMED, TOPIC

KEYWORDS = "attributes.Keywords"
SCALARS = ("status", "owner", "attributes.Note", "attributes.Cost")
FIELDS = (*SCALARS, KEYWORDS)
GROUP = "attributes"  # what some fields lie in
RESTRICTED = "attributes.Cost"  # in some worlds one source may not set it
OUTSIDER = "//mes/line-3"
SOURCES = ("//erp/prod", "//plm/flow", OUTSIDER)
VALUES: tuple[Any, ...] = ("a", "b", "c", None, 1)
SPELLINGS: tuple[Any, ...] = ("a", " a ", "A", "b", "", None, 1, "1", "1.00")
WORDS = ("draft", "bracket", "steel", "mine")
WORD_SPELLINGS = ("draft", "Draft", " draft", "bracket", "steel", "mine")
TYPES = ("PART", "DRAWING")

_DECIDING = (Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST, Strategy.HOLD, Strategy.FILL)
_YIELDING = (Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST)
_OVERLAPS = (Strategy.HOLD, Strategy.HOLD, Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.NEWEST)

# Each fault's greatest rate. Rates of single requests and effects are chances; the others weigh a step of the workload.
RATES_MAX: dict[str, float] = {
    # at any effect
    "crash": 0.02,
    "store_error": 0.01,  # of the store in memory
    "store_busy": 0.005,  # of SQLite, when another program has not let go of the file within its timeout
    # at any I/O of SQLite
    "power_cut": 0.001,
    "killed_in_io": 0.001,
    "disk_error": 0.001,
    # how a process is started
    "once": 0.2,
    "maintenance": 0.2,
    # when the process died
    "power_lost": 0.5,
    "store_lost": 0.3,
    "store_restored": 0.3,
    # on the way to Windchill and back
    "request_lost": 0.15,
    "request_refused": 0.1,
    "request_late": 0.08,
    "write_late": 0.0,  # given up soon, and on its way all the same: only where a seed asks for many doubts
    "reply_lost": 0.2,
    "reply_late": 0.1,
    # at Windchill
    "rival_at_write": 0.4,
    "rival_after_read": 0.15,
    "ambiguous_409": 0.5,
    "applied_503": 0.05,
    "token_missing": 0.5,
    "unusable_read": 0.05,
    "refused_field": 0.1,
    "unguarded_428": 0.01,
    # at the log
    "append_torn": 0.2,
    "fetch_rewound": 0.05,
    "fetch_slow": 0.05,
    "append_slow": 0.1,
    # steps of the workload
    "poison": 0.3,
    "duplicate": 0.4,
    "late_duplicate": 1.0,
    "appended_twice": 0.05,
    "gap": 0.2,
    "letter_replayed": 0.3,
    "document_retried": 0.3,
    "second_owner": 0.1,
    "resolution": 1.0,
    "same_second": 0.8,
    "mirrored": 1.0,
    "renamed": 0.3,
    "replaced": 0.1,
    "group_claim": 0.05,
    "tug": 0.5,
    "broker_away": 0.3,
    "disk_full": 0.2,
    "retention": 0.3,
    "truncation": 0.3,
    "throttled": 0.3,
    "unauthorised": 0.2,
    "locked": 0.3,
    "not_available": 0.2,
    "clock_jump": 0.2,
    "sigterm": 0.2,
    "sigkill": 0.2,
    # where several processes share a store
    "stopped": 0.5,
    "stopped_there": 0.003,  # at an effect, where it hurts
    "connection_lost": 0.05,  # around a statement
    "sent_late": 0.3,  # a statement, again, long after it was given up
    "rebalanced": 0.5,
    "failover": 1.0,
    # what operators do, by the program itself
    "paused": 0.3,
    "resumed": 0.2,
    "retried": 0.1,
    "released": 0.05,
    "decided": 0.5,
    "reloaded": 0.3,
    "compared": 0.6,
}


# Some worlds are about one thing, which chance alone would bring together once in a thousand worlds.
_QUIET = dict.fromkeys(
    (
        *("paused", "resumed", "retried", "document_retried", "late_duplicate", "clock_jump", "decided", "resolution"),
        *("released", "reloaded", "store_lost", "store_restored", "crash", "not_available"),
    ),
    0.0,
)
_PLAIN = dict.fromkeys(
    (
        *("locked", "throttled", "unauthorised", "broker_away", "retention", "truncation", "tug", "request_late"),
        *("fetch_slow", "append_slow", "request_lost", "reply_lost", "reply_late", "disk_full", "store_error"),
    ),
    0.0,
)
_THEMES: dict[str, dict[str, float]] = {
    "doubts": {"write_late": 0.6, "paused": 1.5, "resumed": 1.5},  # several writes are in doubt at once
    "tugs": _QUIET | {"tug": 2.0},  # other programs pull at what is ours, and no person comes in between
    "torn": {"same_second": 3.0, "resolution": 0.0, "decided": 0.0},  # lists of which someone moves what we write
    "moves": _QUIET | _PLAIN | {"renamed": 1.0, "late_duplicate": 1.0, "store_lost": 0.3},  # all comes again elsewhere
}

# Only where several share a store.
SHARED = ("stopped", "stopped_there", "connection_lost", "sent_late", "rebalanced", "failover")
_ABOUT_SHARES = 0.08  # of the worlds with several processes
_NOT_SHARED = ("store_lost", "store_restored", "truncation", "renamed", "replaced", "fetch_rewound")


@attrs.frozen
class Options:
    """A world's constants."""

    seed: int
    steps: int
    store: Literal["memory", "sqlite"]
    rates: dict[str, float]
    keys: tuple[str, ...]
    partitions: int
    shows: Literal["document", "token", "nothing"]  # what a write is answered with
    alters: str | None  # the field whose values the server stores in capitals
    guard: Literal["token", "lock"]  # what keeps a write of ours from going over someone else's
    iterates: bool  # whether a write makes an iteration that people see, so that events wait for each other
    restricted: bool
    step_s: float  # mean time between two steps of the workload
    spelled: bool  # whether one value has many spellings, and rules have normalisers
    coarse: bool  # whether the server shows whole seconds only
    typed: bool  # whether rules differ by the documents' type
    theme: str  # what this world is about, "" for everything
    wired: bool  # whether the real HTTP adapter is at work
    bound: bool  # whether topics are bound to sources
    mirror: str  # the topic that copies come to, "" for none
    renamed: tuple[str, ...]  # what the first topic is called when it is renamed, and renamed again
    window: int  # documents that may wait in memory
    broker_stamps: bool  # LogAppendTime; else a record has the time that its producer gave it
    replicas: int = 1  # processes that share a store, each on a machine of its own
    skews_s: tuple[float, ...] = (0.0,)  # of their clocks
    in_flight_max: int = 2
    writes_max: int = 0  # documents that comparisons write to in some minutes, all together; 0: no limit
    checkpoint: int = 4000  # rows changed between two checkpoints of a SQLite store
    crash_at: int | None = None  # die at this effect and at no other
    cut_at: int | None = None  # lose power at this I/O and at no other
    fail_at: int | None = None  # fail at this I/O

    @property
    def words(self) -> tuple[str, ...]:
        """The elements that lists may have."""
        return WORD_SPELLINGS if self.spelled else WORDS

    @property
    def values(self) -> tuple[Any, ...]:
        """The values that fields may have."""
        return SPELLINGS if self.spelled else VALUES

    @property
    def word_steps(self) -> tuple[Normaliser, ...]:
        """What does not count in comparing elements, under every policy of this world."""
        return (Normaliser.TRIM, Normaliser.CASE) if self.spelled else ()

    @property
    def pulled(self) -> bool:
        """Whether some fields are the log's alone, and other programs pull at them."""
        return self.theme == "tugs"

    @property
    def moves(self) -> bool:
        """Whether the log gets another name, often with a new store, and what people have edited has to outlast it."""
        return self.theme == "moves"

    @property
    def crowded(self) -> bool:
        """Whether more documents want something than fit into memory."""
        return len(self.keys) > self.window

    @property
    def by_chance(self) -> bool:
        """Whether processes die, and disks fail, whenever it happens."""
        return self.crash_at is None and self.cut_at is None and self.fail_at is None

    def rng(self, stream: str) -> random.Random:
        """A stream of chance of its own."""
        return random.Random(f"{self.seed}/{stream}")


def drawn(seed: int, steps: int, rates: Mapping[str, float], *, several: bool = False, **given: Any) -> Options:
    """What a seed stands for, for one process at a time or for `several`; `rates` and `given` override."""
    rng = random.Random(f"{seed}/options")
    # About half of the faults are asleep in each world: a fault that always strikes hides what others would show.
    own = {name: _rate(random.Random(f"{seed}/rate of {name}"), most) for name, most in RATES_MAX.items()} | dict(rates)
    more = random.Random(f"{seed}/more options")
    many = more.choice((10, 16)) if more.random() < 0.06 else 0
    options = Options(
        seed=seed,
        steps=steps,
        store="sqlite" if rng.random() < 0.5 else "memory",
        rates=own,
        keys=tuple(f"DOC-{number}" for number in range(many or rng.choice((1, 2, 2, 3)))),
        partitions=rng.choice((1, 1, 2)),
        shows=rng.choice(("document", "document", "token", "nothing")),
        alters=rng.choice((None, None, None, "attributes.Note")),
        guard="lock" if random.Random(f"{seed}/guard").random() < 0.3 else "token",
        iterates=False,
        restricted=rng.random() < 0.3,
        step_s=rng.choice((0.5, 2.0, 5.0, 10.0)),
        checkpoint=rng.choice((10, 100, 4000)),
        spelled=more.random() < 0.3,
        coarse=more.random() < 0.4,
        typed=more.random() < 0.3,
        window=4 if many else 10_000,
        broker_stamps=more.random() < 0.6,
        bound=more.random() < 0.3,
        wired=more.random() < 0.3,
        theme=_theme(random.Random(f"{seed}/theme").random()),
        mirror=more.choice(("", "", *MIRRORS)),
        renamed=more.choice(RENAMED),
    )
    # What the log has lost, only the store has: in one world one of them loses something.
    off = rng.choice((("retention", "truncation"), ("store_lost", "store_restored")))
    own.update((name, 0.0) for name in off if name not in rates)
    own.update(_THEMES.get(options.theme, {}) | dict(rates))
    if own["truncation"]:  # what a topic has lost, no one can tell once it has another name
        own["renamed"] = 0.0
    if own["store_lost"] or own["store_restored"]:  # nor what was read from a log of before
        own["replaced"] = 0.0
    if not options.mirror:
        own["mirrored"] = 0.0
    if options.moves:  # a name that sorts after the first, so that every copy ranks higher than its original
        options = attrs.evolve(options, renamed=RENAMED[-1])
    if options.theme:  # where little is going on, what belongs together meets
        options = attrs.evolve(options, keys=options.keys[:1], window=10_000, step_s=10.0 if options.pulled else 3.0)
    if options.guard == "lock":
        paced = random.Random(f"{seed}/iterations").random() < 0.5
        options = attrs.evolve(options, shows="document", iterates=paced)
    if options.alters:  # what a server alters and never shows can't be told from a user's edit
        own["token_missing"] = 0.0
        options = attrs.evolve(options, shows="token" if options.shows == "nothing" else options.shows)
    options = _several(options, rates) if several else attrs.evolve(options, rates=own | dict.fromkeys(SHARED, 0.0))
    options = attrs.evolve(options, **given)
    return attrs.evolve(options, wired=options.wired and options.guard == "token")  # locks are another dialect's


def _several(options: Options, rates: Mapping[str, float]) -> Options:
    """The same world with several processes; no store and no log is lost, but in half of them the store fails over."""
    rng = random.Random(f"{options.seed}/several")
    replicas = rng.choice((2, 3))
    # What the log has lost, only the store has: it is not to go back then.
    asleep = "failover" if random.Random(f"{options.seed}/failover").random() < 0.5 else "retention"
    options = attrs.evolve(
        options,
        store="memory",
        replicas=replicas,
        keys=options.keys
        if options.crowded or options.theme
        else tuple(f"DOC-{n}" for n in range(rng.choice((1, 2, 3, 6)))),
        skews_s=tuple(rng.choice((0.0, rng.uniform(-2.0, 2.0))) for _ in range(replicas)),
        writes_max=rng.choice((0, 0, 1, 2)) * (4 if options.crowded else 1),  # so that a world comes to its end
        in_flight_max=rng.choice((2, 4)),
        partitions=rng.choice((1, 2, 3)),
        theme="" if options.moves else options.theme,
        # A process that shares a store calls it all the time.
        rates=options.rates
        | {name: options.rates[name] / 5 for name in ("crash", "store_error")}
        | {name: RATES_MAX[name] * rng.uniform(0.2, 1.0) for name in SHARED}  # none is asleep
        | dict.fromkeys((*_NOT_SHARED, asleep), 0.0)
        | dict(rates),
    )
    if random.Random(f"{options.seed}/shares").random() >= _ABOUT_SHARES or options.crowded:
        return options
    # All want more requests than they may have, replies come late, and who is there changes all the time.
    keys = tuple(f"DOC-{number}" for number in range(8))
    rates = options.rates | {"reply_late": 0.4, "sigterm": 1.0, "compared": 2.0, "stopped": 0.05} | dict(rates)
    skews_s = (*options.skews_s, 0.0)[:3]
    return attrs.evolve(options, theme="shares", replicas=3, skews_s=skews_s, keys=keys, writes_max=0, rates=rates)


def _theme(chance: float) -> str:
    """Of eleven worlds, each theme has one; the others are about everything."""
    number = int(chance * 11)
    return [*_THEMES][number] if number < len(_THEMES) else ""


def _rate(rng: random.Random, most: float) -> float:
    return most * rng.random() * rng.choice((0, 1))


def topics(options: Options) -> tuple[ChangeTopic, ...]:
    """What the change log is made of at first."""
    others = tuple(source for source in SOURCES if source != OUTSIDER)
    line = (ChangeTopic(LINE, (OUTSIDER,)),) if options.bound else ()
    mirror = (ChangeTopic(options.mirror),) if options.mirror else ()
    return (ChangeTopic(TOPIC, others if options.bound else ()), *line, *mirror)


def policy(options: Options, version: int) -> Policy:
    """The rules of one configuration of this world; every version has others."""
    rng, more = options.rng(f"policy {version}"), options.rng(f"more of policy {version}")
    rules = []
    for name in FIELDS:
        rule = Rule(
            (name,),
            rng.choice((*_DECIDING, Strategy.MERGE, Strategy.IGNORE) if rng.random() < 0.3 else _DECIDING),
            on_overlap=rng.choice(_OVERLAPS),
            on_adopt=more.choice((None, None, None, None, *Adopt)),
            list=ListMode.SET if name == KEYWORDS else ListMode.ATOMIC,
            normalise=options.word_steps if name == KEYWORDS else _normalisers(options, more),
            sources=tuple(source for source in SOURCES if source != OUTSIDER)
            if options.restricted and name == RESTRICTED
            else (),
            name=f"v{version} {name}",
        )
        if options.pulled and name in SCALARS[:3]:
            rule = attrs.evolve(rule, strategy=Strategy.EXTERNAL)
        if options.moves and name in SCALARS[:3]:
            rule = attrs.evolve(rule, strategy=more.choice(_YIELDING))
        if name == KEYWORDS and (more.random() < 0.3 or options.theme == "torn"):
            rule = attrs.evolve(rule, strategy=Strategy.MERGE, on_overlap=Strategy.HOLD)
        if options.typed and more.random() < 0.5:
            special = attrs.evolve(rule, strategy=more.choice((*_DECIDING, Strategy.IGNORE)), types=(TYPES[-1],))
            rules.append(attrs.evolve(special, name=f"v{version} {name} of drawings"))
        rules.append(rule)
    return Policy(tuple(map(_configurable, rules)))


def _configurable(rule: Rule) -> Rule:
    """The rule without what no configuration can say."""
    settled_again = rule.strategy in (Strategy.EXTERNAL, Strategy.FILL, Strategy.IGNORE)
    return attrs.evolve(rule, on_adopt=None) if settled_again else rule


def _normalisers(options: Options, rng: random.Random) -> tuple[Normaliser, ...]:
    steps = (Normaliser.TRIM, Normaliser.CASE, Normaliser.BLANK, Normaliser.NUMBER)
    return tuple(step for step in steps if rng.random() < 0.4) if options.spelled else ()
