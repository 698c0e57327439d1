"""A few hundred interleavings of three owners of a store on PostgreSQL. `make interleavings` tries ten thousand."""

import pytest

from tests import postgres

pytest.importorskip("asyncpg", reason="there is no asyncpg (`make` installs it)")


async def test_the_store_on_postgresql_answers_three_owners_as_the_store_in_memory_does(
    postgres_server: postgres.Server,
) -> None:
    from tests.contracts import interleaving

    await interleaving.run(postgres_server, count=200, seed=1)
