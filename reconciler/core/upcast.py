"""
Upcasting: turning events of older versions into the newest, by pure functions in a chain.

A version ends the type (`windchill.document.changed.v1`). Each step takes the `data` of one version and returns the
type and data of the next; a step is never changed once events of its version exist. Today every type is at its first
version, so the chain is empty: the next version adds its step here and nowhere else.
"""

from collections.abc import Callable, Mapping

from reconciler.model.value import Json

Data = dict[str, Json]
Step = Callable[[Data], tuple[str, Data]]

STEPS: Mapping[str, Step] = {}


def to_newest(event_type: str, data: Data, steps: Mapping[str, Step] = STEPS) -> tuple[str, Data]:
    """Return type and data after every step that applies; unchanged when none does."""
    seen: set[str] = set()
    while (step := steps.get(event_type)) is not None:
        assert event_type not in seen, f"the upcasters of {event_type} run in a circle"
        seen.add(event_type)
        event_type, data = step(data)
    return event_type, data
