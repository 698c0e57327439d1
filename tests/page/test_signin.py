"""Signing in with an identity provider of another site, in a real browser, and its error pages."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.flows.world import World
from tests.page import inspection
from tests.page.conftest import Stage, Visit
from tests.page.stage import DRAWING
from tests.web.issuer import SIGN_IN, Issuer, trusted
from tests.web.keys import LINES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def idp(stage: Stage, world: World) -> AsyncIterator[Issuer]:
    """The provider, which the stage's server knows from its next start on."""
    daemon = stage.daemon
    daemon.tokens, daemon.as_localhost = LINES, True
    async with Issuer(daemon.clock, asks=True).served() as served, trusted(daemon, issuer=served.url, **SIGN_IN):
        yield served


@asynccontextmanager
async def begun(stage: Stage, **how: Any) -> AsyncIterator[Visit]:
    """A visitor on the first page of a server that knows the provider."""
    async with stage.served_again() as again:
        again.address = again.address.replace("127.0.0.1", "localhost")
        async with again.visit("/", **how) as visit:
            yield visit


async def vouched_for(visit: Visit) -> None:
    """Go by the provider: from our page to its page, and back."""
    await visit.page.get_by_role("link", name="Sign in with your account").click()
    await visit.page.get_by_role("link", name="It is me").click()


async def is_readable(visit: Visit) -> None:
    assert await inspection.structure(visit.page) == []
    assert await inspection.contrast(visit.page) == []
    assert await visit.overflow() <= 0


async def test_a_user_of_the_provider_can_sign_in_act_and_sign_out(stage: Stage, idp: Issuer) -> None:
    idp.person = {"preferred_username": "mrossi", "roles": ["reconciler-operator"]}
    async with begun(stage) as visit:
        await is_readable(visit)
        await vouched_for(visit)
        await visit.page.locator(".who", has_text="mrossi").wait_for()
        assert await visit.text(".who .chip") == "operator"
        assert "need attention" in await visit.text()
        await visit.page.locator("#live", has_text="Live").wait_for()
        await visit.go(f"/documents/{DRAWING}")
        await visit.page.get_by_role("main").get_by_role("button", name="Reconcile now", exact=True).click()
        await visit.page.get_by_text("The document is due now").wait_for()
        await visit.page.get_by_role("button", name="Sign out").click()
        await visit.page.get_by_role("link", name="Sign in with your account").wait_for()
        await visit.go("/")
        await visit.page.get_by_role("link", name="Sign in with your account").wait_for()
    assert [said for said in visit.complaints if not said.startswith("verbose")] == []
    (action,) = await stage.daemon.world.store.actions()
    assert (action.who, action.role, action.issuer, action.kind) == ("mrossi", "operator", idp.url, "retry")
    assert idp.asked["/token"] == 1


async def test_a_sign_in_that_is_played_back_is_refused_in_words(stage: Stage, idp: Issuer) -> None:
    async with begun(stage, width=375) as visit:
        async with visit.page.expect_response(lambda reply: "/signin/callback" in reply.url) as came_back:
            await vouched_for(visit)
        back = (await came_back.value).url
        await visit.page.locator(".who", has_text="jdoe").wait_for()
        await visit.page.get_by_role("button", name="Sign out").click()
        reply = await visit.page.goto(back)
        assert reply is not None
        assert reply.status == 401
        assert "took too long or began in another browser; start again" in await visit.text()
        await is_readable(visit)
        await vouched_for(visit)
        await visit.page.locator(".who", has_text="jdoe").wait_for()


async def test_a_user_without_a_role_is_told_so_and_can_switch_users(stage: Stage, idp: Issuer) -> None:
    idp.person = {"preferred_username": "mrossi", "roles": ["other"]}
    async with begun(stage) as visit:
        await vouched_for(visit)
        await visit.page.get_by_text("Mrossi has no role here").wait_for()
        await is_readable(visit)
        idp.person = {"preferred_username": "akim", "roles": ["reconciler-viewer"]}
        await visit.go("/")
        await vouched_for(visit)
        await visit.page.locator(".who", has_text="akim").wait_for()
