"""Settings: the policy and the configuration in force, with where each value comes from."""

import itertools

from starlette.responses import Response

from reconciler.core.explain import phrases
from reconciler.web import reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import rendering
from reconciler.web.sources import Sources


async def policy(sources: Sources, asked: Asked) -> Response:
    """Show the rules in force, in their order."""
    found = await reading.policy(sources, asked)
    return rendering.current(sources, asked, "policy.html", policy=found, meanings=phrases.STRATEGIES)


async def config(sources: Sources, asked: Asked) -> Response:
    """Show every effective setting."""
    found = (await reading.settings(sources, asked)).items
    sections = [(name, list(group)) for name, group in itertools.groupby(found, key=lambda setting: setting.section)]
    return rendering.current(sources, asked, "config.html", sections=sections)
