"""Documents in every state that a page shows, for tests and screenshots."""

import math
from typing import Any

import attrs

from reconciler.core.explain import series
from reconciler.model.answer import NotAvailable
from reconciler.model.event import Outgoing
from tests.fakes.memory_windchill import Fault
from tests.flows.world import BODY, TOPIC, World
from tests.web.conftest import Daemon

STEP_US = 60_000_000
ERP = "//erp/prod"
FLOW = "//workflow/releases"
DRAWING, COVER, PLATE, GASKET, FLANGE, SHAFT = (f"00000123{number}" for number in (45, 46, 47, 48, 52, 57))


async def furnish(daemon: Daemon, calm: int = 18) -> World:
    """Let it happen, in a bit less than an hour of the world's own time."""
    world = daemon.world
    await world.store.keep_policy(world.attempt_options.policy_digest, world.policy)
    for number in range(calm):
        await _calm(world, f"00000124{number:02}")
    await _story(world)
    await _overlap(world)
    await _troubles(world)
    await world.clock.advance(240)
    for key, title in [(PLATE, "Plate, anodised"), (GASKET, "Gasket, 3 mm")]:
        world.windchill.put(key, {**BODY, "title": title[:6], "owner": "akim"})
        await world.emit({"title": title}, key=key, source=ERP, actor="jdoe", reason="ECN-2240 approved")
        await world.settle(key)
    await world.emit({"status": "INREVIEW"}, key="0000012400", source=FLOW)
    await world.clock.advance(40)
    return world


async def _calm(world: World, key: str) -> None:
    world.windchill.put(key, {**BODY, "title": f"Bracket {key[-2:]}"})
    await world.emit({"status": "RELEASED"}, key=key, source=FLOW, actor="mrossi", reason="ECN-2231 approved")
    await world.settle(key)


async def _story(world: World) -> None:
    """One document with all that a page may tell: claims, an edit that stands, one that is held, lists."""
    world.windchill.put(DRAWING, {**BODY, "title": "Bracket, left"})
    claimed: dict[str, Any] = {
        "status": "INREVIEW",
        "owner": "erp",
        "title": "Bracket, left, steel",
        "attributes.CostCenter": "4000",
        "attributes.Keywords": ["draft", "sheet-metal"],
    }
    await world.emit(claimed, key=DRAWING, source=ERP, actor="jdoe", reason="first load")
    await world.settle(DRAWING)
    await world.clock.advance(700)
    edited = {"attributes.CostCenter": "4711", "owner": "lchen", "attributes.Keywords": ["sheet-metal", "bent"]}
    world.windchill.edit(DRAWING, edited, who="lchen")
    await world.clock.advance(60)
    news = {"attributes.CostCenter": "4020", "attributes.Keywords": ["sheet-metal", "deburred"]}
    await world.emit(news, key=DRAWING, source=ERP, actor="sgarcia", reason="ECN-2298: cost centres moved")
    await world.settle(DRAWING)
    await world.emit({"status": "RELEASED"}, key=DRAWING, source=FLOW, actor="mrossi", reason="release approved")
    world.windchill.script_writes(Fault.RIVAL, key=DRAWING)
    await world.settle(DRAWING)


async def _overlap(world: World) -> None:
    world.windchill.put(COVER, {**BODY, "title": "Cover"})
    note = "Deburr all edges. Tolerance 0.2 mm on the flange. Pack in tens."
    await world.emit({"attributes.Note": note, "title": "Cover"}, key=COVER, source=ERP)
    await world.settle(COVER)
    world.windchill.edit(COVER, {"attributes.Note": note.replace("0.2 mm", "0.15 mm")}, who="akim")
    await world.clock.advance(400)
    await world.emit({"attributes.Note": note.replace("tens", "twenties")}, key=COVER, source=ERP, actor="jdoe")
    await world.settle(COVER)


async def _troubles(world: World) -> None:
    world.windchill.put(FLANGE, BODY)
    world.windchill.refusals[FLANGE] = NotAvailable(403, "the service account may not see this context")
    await world.emit({"status": "RELEASED"}, key=FLANGE, source=FLOW)
    await world.wait(FLANGE)
    await world.attempt(key=FLANGE)
    world.windchill.put(SHAFT, {**BODY, "title": "Shaft"})
    await world.emit({"status": "RELEASED"}, key=SHAFT, source=FLOW)
    world.windchill.script_writes(*[Fault.RIVAL] * 12, key=SHAFT)
    for _ in range(12):
        if world.document(SHAFT).status.value == "contended":
            break
        await world.wait(SHAFT)
        await world.attempt(key=SHAFT)
    await world.clock.advance(120)
    bad = b'{"specversion":"1.0","id":"ecn-2301","source":"//erp/prod","type":"windchill.document.changed.v1",'
    bad += b'"subject":"0000012361","time":"2026-11-22 10:00","data":{"set":{"status":"RELEASED"}}}'
    headers = (("content-type", b"application/cloudevents+json"), ("trace", b"\xfe\x00"))
    world.broker.put(Outgoing(TOPIC, b"0000012361", bad, headers))
    world.broker.put(Outgoing(TOPIC, b"k\xff", b"not json \xff\x00 \xe2\x80\xaetxt", (("null", None),)))
    await world.fold()


def measure(daemon: Daemon, steps: int = 300) -> None:
    """Hours of numbers, minute by minute, with a gap where nothing was measured."""
    now = daemon.clock.now_us() // STEP_US
    for back in range(steps, 0, -1):
        if 190 < back < 205:
            continue
        day, ripple = math.sin(back / 45), math.sin(back / 3.1) * math.sin(back / 7.7)
        busy = 3.4 + 1.8 * day + 0.5 * ripple
        daemon.points.append(
            series.Point(
                at_us=(now - back) * STEP_US,
                events_per_s=busy,
                writes_per_s=busy * 0.42,
                convergence_p50_s=0.5 + 0.12 * day + 0.05 * ripple,
                convergence_p95_s=1.9 + 0.7 * day + 0.4 * ripple + (2.5 if 20 < back < 32 else 0),
                version_conflict_rate=max(0.0, 0.03 + 0.02 * day + 0.01 * ripple + (0.12 if 20 < back < 32 else 0)),
            )
        )


@attrs.frozen
class Hostile:
    """Texts that want to be markup, a script, a link, a formula, or something else than what they look like."""

    texts: tuple[str, ...] = (
        "<script>window.owned = 1</script>",
        '"><img src=x onerror="window.owned = 1">',
        "' onmouseover='window.owned = 1",
        "javascript:window.owned=1",
        "{{ 7 * 7 }}{% raw %}",
        "RELEASED\u202eDESAELER\u2066x",
        "nul \x00 and bell \x07",
        '=HYPERLINK("http://example.com")',
        "👩‍🔧 größer als “alles” ￿",
    )
    keys: tuple[str, ...] = (
        "<script>window.owned = 1</script>",
        "a/b/../c",
        "--status",
        "..",
        "quo'te\"s & <b>",
        "turned\u202earound",
        "👩‍🔧",
        "k" * 512,
        "W" * 90,
    )


HOSTILE = Hostile()


async def infest(daemon: Daemon) -> World:
    """Documents, conflicts and dead letters made of hostile texts."""
    world = daemon.world
    await world.store.keep_policy(world.attempt_options.policy_digest, world.policy)
    for number, key in enumerate(HOSTILE.keys):
        text = HOSTILE.texts[number % len(HOSTILE.texts)]
        world.windchill.put(key, {**BODY, "title": "Cover"})
        await world.emit({"title": "Lid", "attributes.Note": text}, key=key, actor=text, reason=text)
        await world.settle(key)
        world.windchill.edit(key, {"title": text, "attributes.Note": "x"}, who=text)
        await world.emit({"title": text[::-1] + "y", "attributes.Note": text + "z"}, key=key, id=text, source=text)
        await world.settle(key)
    world.windchill.put("long", {**BODY, "title": "Cover"})
    await world.emit({"attributes.Note": "a" * 100_000 + " b", "title": "Lid"}, key="long")
    await world.settle("long")
    world.windchill.edit("long", {"attributes.Note": "a" * 50_000 + "c" * 50_000})
    await world.emit({"attributes.Note": "a" * 100_000 + " d"}, key="long")
    await world.settle("long")
    for text in HOSTILE.texts:
        world.broker.put(Outgoing(TOPIC, text.encode(), text.encode(), ((text, text.encode()),)))
    await world.fold()
    return world
