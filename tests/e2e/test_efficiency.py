"""What the common case costs."""

from reconciler.model.document import Status
from tests.e2e.world import World, event

KEYS = [f"{number:010d}" for number in range(1, 301)]


async def test_known_documents_cost_one_patch_each_and_no_read_however_many_events_there_are(world: World) -> None:
    await world.append(*(event(key, {"attributes.CostCenter": "first"}) for key in KEYS))
    assert (await world.converge()).counts[Status.SYNCED] == len(KEYS)
    world.simulated.forget_requests()
    events = [event(key, {"attributes.CostCenter": f"value {n}", "title": f"t {n}"}) for n in range(20) for key in KEYS]
    await world.settle(*events)
    assert world.simulated.requests() == {"PATCH": {"200": len(KEYS)}}
    for key in KEYS:
        shown = world.simulated.document(key)
        assert (shown["attributes"]["CostCenter"], shown["title"]) == ("value 19", "t 19")
