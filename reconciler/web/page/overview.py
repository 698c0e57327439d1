"""
The overview page (overall status, what needs attention), and the pages of hot spots, policy and configuration.

Problems of the reconciler itself (a stuck loop, an unreachable log or Windchill) come before everything else that needs
attention, because they cause most of the other entries.
"""

import itertools
from collections.abc import Iterable, Mapping

import attrs
import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.core.explain import phrases
from reconciler.model import instant
from reconciler.model.document import Status
from reconciler.web import action_api, inputs, paging, read_api
from reconciler.web.endpoint import Call
from reconciler.web.page import formatting, links, notices, plots, rendering
from reconciler.web.services import Services

_EACH_MAX = 30  # entries read of each kind, oldest first, so the oldest of all are among them
_SHOWN_MAX = 15
_RECENT = 8
_HOURS = 6
_TROUBLED = (Status.PARKED, Status.CONTENDED)


async def show(services: Services, call: Call, notice: notices.Notice | None = None, code: int = 200) -> Response:
    """Show the overall status, what needs attention, and recent attempts."""
    store, now_us = services.store, services.clock.now_us()
    now = await read_api.status(services, call)
    late = services.late()
    troubled: list[views.documents.DocumentRow] = []
    for status in (*_TROUBLED, *((Status.PENDING,) if is_old(now) else ())):
        if now.documents.get(status.value):
            troubled += await paging.longest_pending(store, status, _EACH_MAX)
    found = attention_list(
        now,
        now_us=now_us,
        late=late,
        conflicts=(await paging.conflicts(store, "", _EACH_MAX)).items,
        letters=(await paging.dead_letters(store, "open", "", _EACH_MAX)).items,
        documents=troubled,
    )
    recent = (await paging.attempts(store, "", _RECENT)).items
    measured = await read_api.series(services, attrs.evolve(call, query=read_api.SeriesQuery(hours=_HOURS)))
    return rendering.page(
        services,
        call,
        "overview.html",
        notice,
        code,
        now=now,
        headline=headline(now, late),
        needs=found[:_SHOWN_MAX],
        more=max(0, len(found) - _SHOWN_MAX),
        recent=recent,
        plots=plots.of(measured.points),
        hours=_HOURS,
    )


async def stop_writes(services: Services, call: Call) -> Response:
    """Stop all writes."""
    reason = notices.reason(await inputs.fields(call.request))
    operator = action_api.actions_of(services, call)
    stop = await operator.stop_writes(call.who.name, reason)
    left = await operator.despite_stop(stop, action_api.STOP_PATIENCE_S)
    return rendering.redirect(links.address("/", done="stopping" if left else "stopped", n=str(len(left))))


async def resume_writes(services: Services, call: Call) -> Response:
    """Let all replicas write again."""
    reason = notices.reason(await inputs.fields(call.request))
    if await action_api.actions_of(services, call).resume_writes(call.who.name, reason):
        return rendering.redirect(links.address("/", done="writing"))
    call = attrs.evolve(call, query=notices.WithNotice())
    return await show(services, call, notices.refused("writes are not stopped"), 409)


async def hotspots(services: Services, call: Call) -> Response:
    """List documents and fields by their version conflicts."""
    found = (await read_api.hotspots(services, call)).items
    return rendering.page(
        services,
        call,
        "hotspots.html",
        documents=[_row(spot.document, spot) for spot in found if spot.document is not msgspec.UNSET],
        fields=[_row(spot.field, spot) for spot in found if spot.field is not msgspec.UNSET],
    )


def _row(name: str, spot: views.open_items.HotSpot) -> tuple[str, views.open_items.HotSpot, plots.Strip]:
    return name, spot, plots.strip(spot.hours)


async def policy(services: Services, call: Call) -> Response:
    """Show the rules in force, in order."""
    found = await read_api.policy(services, call)
    return rendering.page(services, call, "policy.html", policy=found, meanings=phrases.STRATEGIES)


async def config(services: Services, call: Call) -> Response:
    """Show every effective setting."""
    found = (await read_api.settings(services, call)).items
    sections = [(name, list(group)) for name, group in itertools.groupby(found, key=lambda setting: setting.section)]
    return rendering.page(services, call, "config.html", sections=sections)


# ------------------------------------------------------------------------------------------------------ needs attention


_STUCK_S = 900.0  # a busy queue does not explain a longer wait
_STUCK = formatting.span(_STUCK_S)
_SAID_MAX = 160
_TOGETHER = 5  # so many conflicts on one field are listed as one entry


@attrs.frozen
class Need:
    """One entry. `kind` is the text of its chip; `address` links to the page where it can be handled."""

    kind: str
    what: str
    why: str
    since: str | None
    action: str
    address: str


@attrs.frozen
class Headline:
    """The overall status in one sentence, with its colour and a second sentence."""

    tone: str
    text: str
    more: str


def is_old(now: views.service.Status) -> bool:
    """Whether a document has been pending for longer than a busy queue explains."""
    return (now.oldest_pending_seconds or 0) > _STUCK_S


def headline(now: views.service.Status, late: Mapping[str, float]) -> Headline:
    """Return the overall status."""
    counts = now.documents
    total, synced = sum(counts.values()), counts.get("synced", 0)
    share = f"{synced:,} of {total:,} documents agree with the log."
    waiting = now.conflicts + now.dead_letters + counts.get("parked", 0) + counts.get("contended", 0)
    if late:
        return Headline("bad", "The reconciler is stuck.", f"Last known state: {share}")
    if now.phase != "ready":
        return Headline("busy", f"The reconciler is {now.phase}.", f"Last known state: {share}")
    if not total:
        return Headline("busy", "No documents yet.", "The log has no events for any document so far.")
    if not now.log_reachable:
        return Headline("bad", "The change log is unreachable.", f"For the events read so far: {share}")
    if now.windchill == "down":
        return Headline("bad", "Windchill is unreachable.", f"Last known state: {share}")
    if waiting:
        return Headline(
            "warn", share, "1 item needs attention." if waiting == 1 else f"{waiting:,} items need attention."
        )
    if is_old(now):
        return Headline("warn", share, f"The rest has been pending for more than {_STUCK}.")
    if observed := counts.get("observed", 0):
        only = "All documents are" if observed == total else f"{observed:,} documents are"
        return Headline("busy", share, f"{only} observed, and not written.")
    if synced == total:
        return Headline("good", "Windchill agrees with the log.", f"All {total:,} documents are synced.")
    return Headline("busy", share, "The rest is in progress. Nothing needs attention.")


def attention_list(
    now: views.service.Status,
    *,
    now_us: int,
    late: Mapping[str, float],
    conflicts: Iterable[views.open_items.Conflict],
    letters: Iterable[views.open_items.DeadLetterRow],
    documents: Iterable[views.documents.DocumentRow],
) -> list[Need]:
    """Return what needs attention: problems of the reconciler itself, then everything else, oldest first."""
    needs = [
        *_conflicts(conflicts),
        *(_letter(one) for one in letters),
        *(_document(one) for one in documents if one.status != "pending" or _is_stuck(one, now_us)),
    ]
    return [*_troubles(now, late), *sorted(needs, key=lambda need: need.since or "9")]


def _troubles(now: views.service.Status, late: Mapping[str, float]) -> Iterable[Need]:
    for loop, seconds in late.items():
        why = f"It has not reported for {formatting.span(seconds)}. See the program's log."
        yield Need("stuck", f"The loop {loop} is stuck", why, None, "View probe", "/livez")
    if now.phase == "ready" and not now.log_reachable:
        why = "Documents are still compared with the events read so far. New events are not read."
        yield Need("log", "The change log is unreachable", why, None, "View", "#log")
    for disk in now.disks:
        if disk.low:
            free = f"{disk.free_bytes / 1e9:.1f} of {disk.size_bytes / 1e9:.1f} GB are free."
            why = f"{free} When it is full, the reconciler stops."
            yield Need("disk", f"The disk of the {disk.of} is nearly full", why, None, "View", "/config")
    for one in now.notifications_failing:
        why = "It accepts nothing. What it is to be told waits; the program's log says why."
        what = f"Notifications to {formatting.plain(one.to, 60)} fail"
        yield Need("notifications", what, why, one.since, "View", "/config")
    if now.windchill == "down":
        why = f"The breaker is {now.breaker}. Writes resume by themselves when Windchill answers again."
        yield Need("down", "Windchill is unreachable", why, None, "View", "#windchill")


def _conflicts(conflicts: Iterable[views.open_items.Conflict]) -> Iterable[Need]:
    """Yield one entry per conflict, and only one for a field with many, so that other entries stay visible."""
    by_field: dict[str, list[views.open_items.Conflict]] = {}
    for one in conflicts:
        by_field.setdefault(one.field, []).append(one)
    for field, same in by_field.items():
        if len(same) < _TOGETHER:
            yield from map(_conflict, same)
            continue
        yield Need(
            "held",
            f"{formatting.plain(field, 60)} of many documents",
            f"{len(same)} of the oldest conflicts are on this field. One decision or rule may resolve them all.",
            min(one.opened_at for one in same),
            "Resolve together",
            links.address("/conflicts", field=field),
        )


def _conflict(one: views.open_items.Conflict) -> Need:
    desired, live = (formatting.plain(formatting.of_json(value), 40) for value in (one.desired, one.live))
    return Need(
        "held",
        f"{formatting.plain(one.field, 60)} of {formatting.plain(one.document, 60)}",
        f"Waiting for a decision: our value is {desired}, Windchill's is {live}{'' if live.endswith('…') else '.'}",
        one.opened_at,
        "Resolve",
        links.conflict(one.id),
    )


def _letter(one: views.open_items.DeadLetterRow) -> Need:
    return Need(
        "dead letter",
        f"Record {formatting.plain(one.topic, 40)}/{one.partition}/{one.offset}",
        formatting.plain(one.reason, _SAID_MAX),
        one.refused_at,
        "View",
        links.letter(one.id),
    )


def _document(one: views.documents.DocumentRow) -> Need:
    why = formatting.plain(one.reason or f"Pending for more than {_STUCK}.", _SAID_MAX)
    kind = "stuck" if one.status == "pending" else one.status
    return Need(kind, formatting.plain(one.document, 60), why, one.pending_since, "View", links.document(one.document))


def _is_stuck(one: views.documents.DocumentRow, now_us: int) -> bool:
    since = one.pending_since
    return since is not None and (now_us - instant.to_us(since)) / 1_000_000 > _STUCK_S
