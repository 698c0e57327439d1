"""
The fencing matrix: a replica falls asleep at a point of its work, another one has its place when it wakes.

Each cell says who has moved the document meanwhile, and how many writes of ours Windchill has accepted by the end of
the zombie. What holds in every cell is in `zombies`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import postgres
from tests.replicas import zombies
from tests.replicas.zombies import A_PERSON, NOBODY, THE_OTHER, Story

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

AT_ONCE = 3

STORIES = [
    # The fold and the claim: another one folds and takes the document.
    Story("before change.fold", THE_OTHER, 1),
    Story("after store.fold", THE_OTHER, 1),
    Story("before store.hold", NOBODY, 0),
    Story("after store.hold", THE_OTHER, 1),
    # The intent is refused, or stored and not sent.
    Story("before store.intend", NOBODY, 0),
    Story("before store.intend", THE_OTHER, 1),
    Story("before change.settle", THE_OTHER, 1),
    Story("after store.intend", NOBODY, 0),
    Story("after store.intend", THE_OTHER, 1),
    # A request that is past the last look goes out: only Windchill can refuse it.
    Story("before request.PATCH", NOBODY, 1),
    Story("before request.PATCH", A_PERSON, 0),
    Story("before request.PATCH", THE_OTHER, 1),
    # Windchill has answered, and no one knows.
    Story("before store.settle", NOBODY, 1),
    Story("before store.settle", THE_OTHER, 1),
    # Old outcomes come after newer ones.
    Story("before log.append", THE_OTHER, 2, outcomes=(1, 2, 1)),
    Story("after log.append", THE_OTHER, 2, outcomes=(1, 1, 2)),
    # Duties go on elsewhere.
    Story("", THE_OTHER, 1),
    # Windchill REST Services: each step is a request, and SetState has no guard at all.
    Story("before request.CheckOut", NOBODY, 0, "Owner", stranded=1),
    Story("before store.intend", NOBODY, 0, "Owner", number=2),
    Story("before request.PATCH", NOBODY, 0, "Owner"),
    Story("before request.PATCH", THE_OTHER, 1, "Owner"),
    Story("before request.CheckIn", NOBODY, 0, "Owner"),
    Story("before request.CheckIn", A_PERSON, 0, "Owner"),
    Story("before store.settle", NOBODY, 1, "Owner", number=2),  # the first one says that it collects
    Story("before request.SetState", NOBODY, 1, "State"),
]


@pytest.fixture(scope="module")
def told(
    request: pytest.FixtureRequest, postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Story], None]]:
    """Tells those stories that were asked for, some at the same time."""
    asked = [item.callspec.params.get("story") for item in request.session.items if hasattr(item, "callspec")]
    pool, pairs = ThreadPoolExecutor(AT_ONCE), [zombies.Pair() for _ in range(AT_ONCE)]

    def tell(story: Story) -> None:
        pair = pairs.pop()
        try:
            zombies.tell(story, tmp_path_factory.mktemp("zombie"), postgres_server, pair)
        finally:
            pairs.append(pair)

    ends = {story: pool.submit(tell, story) for story in STORIES if story in asked}
    yield lambda story: ends[story].result()
    pool.shutdown(cancel_futures=True)
    for pair in pairs:
        pair.close()


@pytest.mark.parametrize("story", STORIES, ids=str)
def test_a_zombie_writes_nothing_unseen_and_passes_for_no_one_else(told: Callable[[Story], None], story: Story) -> None:
    told(story)
