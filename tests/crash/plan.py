"""What one seed fixes: how each life is to end, under which configuration it is lived, and the weather at Windchill."""

import random
from collections.abc import Iterator
from typing import Any

import attrs

from tests.crash import strikes
from tests.crash.strikes import Strike

# The ends that come from outside, at a random moment.
START_UP, AT_WORK, IN_ORDER, STOPPING = "start-up", "at work", "SIGTERM", "orderly stop"
FROM_OUTSIDE = (START_UP, AT_WORK, AT_WORK, AT_WORK, AT_WORK, STOPPING, STOPPING, IN_ORDER)
_OUTSIDE_SHARE = 0.3

POLICIES = 6
TITLE, COST, NOTE, KEYWORDS = "title", "attributes.CostCenter", "attributes.Note", "attributes.Keywords"
SCALARS = ("status", "owner", TITLE, COST, NOTE)
FIELDS = (*SCALARS, KEYWORDS)
_STRATEGIES = (
    ("merge", "hold"),
    ("merge", "hold"),
    ("merge", "preserve"),
    ("merge", "external"),
    ("merge", "newest"),
    ("newest", "hold"),
    ("hold", "hold"),
    ("preserve", "hold"),
    ("external", "hold"),
    ("fill", "hold"),
)

# Each fault's greatest rate among requests; about half of them are asleep in each spell of weather.
_FAULTS = {
    "lost_reply": 0.2,
    "dropped_request": 0.1,
    "cut_reply": 0.1,
    "unavailable": 0.08,
    "throttle": 0.06,
    "version_conflict": 0.35,
    "bad_json": 0.05,
    "login_page": 0.04,
    "drip": 0.05,
}
FAIR: dict[str, Any] = dict.fromkeys(_FAULTS, 0.0) | {"slow_ms": 0}


@attrs.frozen
class Life:
    """One process: its configuration, and how it is to end."""

    number: int
    policy: int
    in_flight_max: int
    strike: Strike | None  # it kills itself there
    end: str  # or is ended from outside so,
    after_s: float  # so long after its start
    grace_s: float  # and, after SIGTERM, killed so much later

    @property
    def kind(self) -> str:
        """What it is counted by."""
        return self.strike.point if self.strike else self.end


def lives(seed: int, kinds: tuple[str, ...] = ()) -> Iterator[Life]:
    """Lives without end, of all kinds or some; every kind gets its turn before any gets its next."""
    rng = random.Random(f"{seed}/lives")
    policy = number = 0
    while True:
        round_ = list(kinds or all_kinds())
        rng.shuffle(round_)
        for kind in round_:
            number += 1
            if rng.random() < 0.15:
                policy = rng.randrange(POLICIES)
            yield _life(rng, number, policy, kind)


def all_kinds() -> list[str]:
    """Every way for a process to end: the chosen points, and from outside in nearly a third of all lives."""
    points = strikes.points()
    outside = round(len(points) * _OUTSIDE_SHARE / (1 - _OUTSIDE_SHARE))
    return points + [FROM_OUTSIDE[index % len(FROM_OUTSIDE)] for index in range(outside)]


def _life(rng: random.Random, number: int, policy: int, kind: str) -> Life:
    strike = None
    if kind not in FROM_OUTSIDE:
        moment, effect = kind.split(" ")
        calls = strikes.EFFECTS.get(effect) or strikes.INSIDE[effect]
        # The first calls more often than later ones: they are what recovery does.
        strike = Strike(effect, moment, 1 + int(calls * rng.random() ** 2), rng.uniform(0, 0.008))
    after_s = rng.uniform(0, 0.5) if kind == START_UP else rng.uniform(0.3, 2.5)
    in_flight_max = rng.choice((1, 2, 4, 8))
    return Life(number, policy, in_flight_max, strike, kind, after_s, rng.uniform(0, 0.15))


def policy_rules(seed: int, number: int) -> list[dict[str, Any]]:
    """The [[policy]] tables of one configuration. Status belongs to the log and the owner to people in all of them."""
    rng = random.Random(f"{seed}/policy {number}")
    rules: list[dict[str, Any]] = [
        {"fields": ["status"], "strategy": "external"},
        {"fields": ["owner"], "strategy": "preserve"},
    ]
    for field in (TITLE, COST, NOTE, KEYWORDS):
        strategy, overlap = _STRATEGIES[0] if number == 0 else rng.choice(_STRATEGIES)
        rule = {"fields": [field], "strategy": strategy, "on_overlap": overlap}
        rules.append(rule | ({"list": "set"} if field == KEYWORDS else {}))
    return rules


@attrs.frozen
class Weather:
    """How Windchill fares for a while."""

    for_s: float
    faults: dict[str, Any]
    behaviour: dict[str, Any]
    rivals_per_second: float
    locked: tuple[str, ...]
    absent: tuple[str, ...]


def weather(seed: int, keys: tuple[str, ...]) -> Iterator[Weather]:
    """Spells of weather without end."""
    rng = random.Random(f"{seed}/weather")
    while True:
        faults: dict[str, Any] = {name: most * rng.random() * rng.choice((0, 1)) for name, most in _FAULTS.items()}
        faults |= {"slow": 0.5, "slow_ms": rng.choice((0, 0, 10, 40, 80)), "retry_after_s": 0, "drip_ms": 5}
        faults["drop_with"] = rng.choice(("close", "reset"))
        behaviour = {
            "conflict_status": rng.choice((409, 412)),
            "write_reply": rng.choice(("document", "document", "none")),
            "write_etag": rng.random() < 0.8,
        }
        yield Weather(
            for_s=rng.uniform(1.0, 6.0),
            faults=faults,
            behaviour=behaviour,
            rivals_per_second=rng.choice((0.0, 2.0, 5.0, 10.0)),
            locked=tuple(key for key in keys if rng.random() < 0.04),
            absent=tuple(key for key in keys if rng.random() < 0.02),
        )
