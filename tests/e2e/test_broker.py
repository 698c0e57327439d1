"""The whole program on Apache Kafka: every way in, and a broker that stops, dies, stalls, compacts or forgets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from reconciler import factory
from reconciler.adapters import kafka_client
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.kafka import KafkaLog
from reconciler.adapters.sqlite import path_of
from reconciler.config import Config
from reconciler.model.document import Status
from reconciler.model.stamp import Partition
from tests import brokers, checks
from tests.adapters.simulated import Simulated
from tests.brokers import apache, certificates
from tests.brokers.apache import Apache
from tests.brokers.fixtures import MakeTopic
from tests.brokers.listeners import MECHANISMS, PASSWORD, Listeners
from tests.cli.program import Program
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import Running, World, event, values_of
from tests.faults.proxy import StreamProxy
from tests.patience import HANG_S

KEYS = [f"{number:010d}" for number in range(1, 41)]
DOCUMENT = KEYS[0]


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    if not isinstance(brokers.choose(), Apache):
        pytest.skip("only Apache Kafka has these listeners and these faults")
    if not certificates.available():
        assert not brokers.must_be_apache(), "CI needs openssl, to make certificates"
        pytest.skip("no openssl on PATH, which makes the certificates")
    made = Listeners(tmp_path_factory.mktemp("certificates"))
    with made.tokens, made.server:
        yield made


@pytest.fixture(scope="module")
def broker(listeners: Listeners) -> brokers.Server:
    """Instead of the session's: topics and worlds of this module live here."""
    return listeners.server


@pytest.fixture
def server(listeners: Listeners) -> Iterator[Apache]:
    """The broker; a test may take it down, and whatever becomes of the test, it is up again for the next."""
    yield listeners.server
    if listeners.server.pid is None:
        listeners.server.resume()


# ----------------------------------------------------------------------------------------------------------- listeners


WAYS_IN = [
    ("TLS", ""),
    ("MUTUAL", ""),
    ("OAUTH", ""),
    *((name, mechanism) for name in ("SASL", "BOTH") for mechanism in MECHANISMS),
]


@pytest.mark.parametrize(("listener", "mechanism"), WAYS_IN)
async def test_every_listener_lets_us_in_from_events_to_outcomes(
    make_world: MakeWorld, listeners: Listeners, listener: str, mechanism: str
) -> None:
    world = await make_world(log=listeners.settings(listener, mechanism or MECHANISMS[0]))
    await world.append(event(DOCUMENT, {"title": "one"}), world.record(event(DOCUMENT))._replace(value=b"not json"))
    assert (await world.converge()).dead_letters == 1
    assert world.simulated.document()["title"] == "one"
    assert len(await world.outcomes()) == 1
    assert len(await world.read(world.config.log.dead_letter_topic)) == 1


async def test_a_locked_key_is_opened_and_what_we_write_is_compressed(
    make_world: MakeWorld, listeners: Listeners
) -> None:
    key = {"cert_file": str(listeners.locked.certificate), "key_file": str(listeners.locked.key)}
    given = listeners.settings("MUTUAL") | key | {"key_password": PASSWORD, "compression": "gzip"}
    world = await make_world(log=given)
    await world.append(event(DOCUMENT, {"title": "one"}))
    await world.converge()
    assert len(await world.outcomes()) == 1


async def test_a_token_is_kept_until_it_is_about_to_expire(listeners: Listeners) -> None:
    config = Config(log=attrs.evolve(Config().log, **listeners.settings("OAUTH")))
    tokens = factory.kafka_options(config).tokens
    assert tokens is not None
    before = listeners.tokens.issued
    first = {await tokens.token() for _ in range(3)}
    assert (len(first), listeners.tokens.issued) == (1, before + 1)


def wrong(listeners: Listeners) -> dict[str, tuple[dict[str, Any], str]]:
    there = listeners.settings
    password, unknown = {"sasl_password": "hunter3"}, {"ca_file": str(listeners.stranger.certificate)}
    foreign, locked = listeners.stranger.sign("client"), listeners.authority.sign("locked", passphrase="hunter2")
    return {
        "wrong password": (there("SASL") | password, "refuses user reconciler"),
        "wrong password over TLS": (there("BOTH") | password, "refuses user reconciler"),
        "wrong password in the clear": (there("SASL", "PLAIN") | password, "refuses user reconciler"),
        "no such user": (there("SASL") | {"sasl_username": "nobody"}, "refuses user nobody"),
        "unknown authority": (there("TLS") | unknown, "certificate"),
        "the system's authorities": (there("TLS") | {"ca_file": ""}, "certificate"),
        "another name": (
            there("TLS") | {"brokers": (listeners.server.address("TLS").replace("127.0.0.1", "localhost"),)},
            "certificate",
        ),
        "TLS to a plain listener": (there("TLS") | {"brokers": (listeners.server.address(),)}, "TLS"),
        "no client certificate": (there("MUTUAL") | {"cert_file": "", "key_file": ""}, "closes the connection at once"),
        "a foreign client certificate": (
            there("MUTUAL") | {"cert_file": str(foreign.certificate), "key_file": str(foreign.key)},
            "closes the connection at once",
        ),
        "a key with a passphrase": (
            there("MUTUAL") | {"cert_file": str(locked.certificate), "key_file": str(locked.key)},
            "can't be used for TLS",
        ),
        "plain to a TLS listener": ({"brokers": (listeners.server.address("TLS"),)}, "closes the connection at once"),
        "a wrong client secret": (
            there("OAUTH") | {"oauth_client_secret": "hunter3"},
            "log.oauth_token_url gives no token: the authorisation server refused: invalid_client",
        ),
        "no token server": (
            there("OAUTH") | {"oauth_token_url": "http://127.0.0.1:1/"},
            "log.oauth_token_url gives no",
        ),
        "SASL to a listener without": (there("SASL") | {"brokers": (listeners.server.address(),)}, "SASL"),
    }


CASES = (
    "wrong password", "wrong password over TLS", "wrong password in the clear", "no such user", "unknown authority",
    "the system's authorities", "another name", "TLS to a plain listener", "no client certificate",
    "a foreign client certificate", "a wrong client secret", "no token server",
    "a key with a passphrase", "plain to a TLS listener", "SASL to a listener without",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_who_is_not_let_in_learns_why_in_one_line(
    listeners: Listeners, simulated: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(kafka_client, "KafkaOptions", partial(kafka_client.KafkaOptions, connect_timeout_s=2.0))
    settings, expected = wrong(listeners)[case]
    log = "\n".join(
        f"{name} = {json.dumps(list(value) if isinstance(value, tuple) else value)}" for name, value in settings.items()
    )
    program = Program(tmp_path, simulated.url, log)
    for command in (("run", "--once"), ("emit", DOCUMENT, "--set", "title=x"), ("doctor",)):
        ended = program.run(*command)
        assert ended.returncode == 1
        said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        if command == ("doctor",):
            said = [line for line in ended.stdout.splitlines() if line.startswith("✗")][:1]
        assert len(said) == 1, ended
        assert expected in said[0]
        assert "hunter" not in ended.stdout + ended.stderr


# ------------------------------------------------------------------------------------------- brokers that come and go


def titles(world: World) -> set[str]:
    return {world.simulated.document(key)["title"] for key in KEYS}


async def outbox_is_empty(running: Running) -> bool:
    return not await running.daemon.store.waiting(1)


@pytest.mark.parametrize("end", ["halt", "kill"])
async def test_a_broker_that_goes_in_mid_work_and_comes_back_costs_nothing(
    make_world: MakeWorld, server: Apache, end: str
) -> None:
    world = await make_world()
    world.simulated.faults(slow=1.0, slow_ms=50)
    async with world.running() as running:
        await world.append(*(event(key, {"title": "one"}) for key in KEYS))
        await running.until(lambda: len(world.simulated.whole_history()) >= 10, "ten writes were made")
        world.simulated.faults(unavailable=1.0)  # so that work is left when the broker is gone, however long that takes
        await asyncio.to_thread(getattr(server, end))
        assert titles(world) != {"one"}
        world.simulated.faults(unavailable=0.0)
        await running.until(lambda: titles(world) == {"one"}, "the work goes on without the broker")
        assert not await outbox_is_empty(running), "no one can be told"
        await asyncio.to_thread(server.resume)
        await world.append(*(event(key, {"title": "two"}) for key in KEYS))
        await running.until_settled()
        await running.until(lambda: outbox_is_empty(running), "all is told that waited in the outbox")
        await running.check()
    assert titles(world) == {"two"}
    assert values_of(await world.told()) == {key: {"title": "two"} for key in KEYS}


@pytest.fixture
async def proxy(listeners: Listeners) -> AsyncIterator[StreamProxy]:
    host, port = listeners.server.address("PROXIED").split(":")
    async with StreamProxy((host, int(port)), listeners.proxy_port) as between:
        yield between


def behind(proxy: StreamProxy) -> dict[str, Any]:
    return {"brokers": (f"{apache.HOST}:{proxy.port}",)}


async def test_a_broker_that_is_away_at_the_start_is_waited_for(make_world: MakeWorld, proxy: StreamProxy) -> None:
    world = await make_world(log=behind(proxy))
    await world.append(event(DOCUMENT, {"title": "one"}))
    proxy.shut()
    proxy.cut()
    async with world.running() as running:
        first = running.daemon._outcomes  # it is read before the changes are
        await running.until(lambda: isinstance(first, KafkaLog) and first._away, "the broker was missed")
        await proxy.open()
        await running.until_settled()
    assert world.simulated.document()["title"] == "one"


async def test_a_log_whose_broker_is_away_closes_in_good_order(make_world: MakeWorld, proxy: StreamProxy) -> None:
    world = await make_world(log=behind(proxy))
    log = KafkaLog(attrs.evolve(factory.kafka_options(world.config), fetch_wait_s=0.1), SystemClock())
    await log.open({})
    fetcher = log._opened()._fetcher
    proxy.shut()
    proxy.cut()
    async with asyncio.timeout(HANG_S):
        while log._opened()._client._conns or not fetcher._pending_tasks:  # noqa: ASYNC110  aiokafka tells of neither
            await asyncio.sleep(0.001)
    await log.close()


async def test_a_slow_and_dripping_broker_is_slow_and_nothing_else(make_world: MakeWorld, proxy: StreamProxy) -> None:
    world = await make_world(log=behind(proxy))
    proxy.delay_s, proxy.piece_bytes = 0.005, 1500
    async with world.running() as running:
        for word in ("one", "two"):
            await world.append(*(event(key, {"title": word}) for key in KEYS))
            await running.until_settled()
        await running.until(lambda: outbox_is_empty(running), "all is told")
        await running.check()
    assert values_of(await world.told()) == {key: {"title": "two"} for key in KEYS}


@pytest.mark.parametrize("silence", ["reset", "half-open"])
async def test_a_broker_that_falls_silent_for_a_while_is_heard_again(
    make_world: MakeWorld, server: Apache, proxy: StreamProxy, silence: str
) -> None:
    world = await make_world(log=behind(proxy))
    beside = attrs.evolve(world, config=attrs.evolve(world.config, log=attrs.evolve(
        world.config.log, brokers=tuple(server.brokers)
    )))  # fmt: skip
    async with world.running() as running:
        await world.append(event(DOCUMENT, {"title": "one"}))
        await running.until_settled()
        if silence == "reset":
            proxy.shut()
            proxy.cut()
        else:
            proxy.hold()
        world.simulated.edit({"owner": "someone"})
        await beside.append(*(event(key, {"title": "two"}) for key in KEYS))
        assert world.simulated.document()["title"] == "one"
        if silence == "reset":
            await proxy.open()
        else:
            proxy.release()
        await running.until_settled()
        await running.check()
    assert titles(world) == {"two"}


# --------------------------------------------------------------------------------------------- what a log may look like


@asynccontextmanager
async def producing(server: Apache, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=server.brokers, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def text(given: dict[str, Any]) -> bytes:
    return json.dumps(given).encode()


async def test_batches_of_every_compression_are_folded(make_world: MakeWorld, server: Apache) -> None:
    world = await make_world()
    kinds_of_batch = (None, "gzip", "snappy", "lz4", "zstd")
    for kind in kinds_of_batch:
        async with producing(server, compression_type=kind, linger_ms=50) as producer:
            sent = [
                await producer.send(
                    world.config.log.topic, text(event(key, {f"attributes.{kind}": "x" * 500})), key.encode()
                )
                for key in KEYS
            ]
            await asyncio.gather(*sent)
    assert (await world.converge()).settled
    for key in KEYS:
        assert {str(kind) for kind in kinds_of_batch} <= world.simulated.document(key)["attributes"].keys()


async def test_a_record_of_the_limit_is_folded_and_one_byte_more_is_a_dead_letter(
    make_world: MakeWorld, server: Apache, topic: MakeTopic
) -> None:
    name = f"{await topic(name='large')}-records"
    await server.create_topic(name, 1, max_message_bytes=str(4 * 1024**2))
    world = await make_world(log={"topic": name})
    limit = world.config.log.record_bytes_max
    assert limit == 1024**2
    async with producing(server, max_request_size=4 * 1024**2) as producer:
        for key, size in zip(KEYS, (limit, limit + 1, 100), strict=False):
            given = event(key, {"title": "one"}, padding="")
            given["padding"] = "x" * (size - len(text(given)))
            assert len(text(given)) == max(size, len(text(given | {"padding": ""})))
            await producer.send_and_wait(name, text(given), key.encode())
    summary = await world.converge()
    assert summary.dead_letters == 1
    shown = [world.simulated.document(key)["title"] for key in KEYS[:3]]
    assert (shown[0], shown[2]) == ("one", "one")
    assert shown[1] != "one"
    (letter,) = await world.read(world.config.log.dead_letter_topic)
    assert letter.key == KEYS[1].encode()
    assert f"{limit + 1:,} bytes".encode() in (dict(letter.headers)["__reconciler.errors.message"] or b"")


async def test_an_outcome_that_the_broker_does_not_take_whole_tells_digests(
    make_world: MakeWorld, server: Apache, topic: MakeTopic
) -> None:
    name = f"{await topic(name='small')}-outcomes"
    await server.create_topic(name, 1, max_message_bytes=str(4 * 1024))
    world = await make_world(log={"outcomes_topic": name})
    await world.append(event(KEYS[0], {"title": "x" * 10_000, "owner": "akim"}))
    assert (await world.converge()).settled
    (outcome,) = (json.loads(record.value or b"") for record in await world.read(name))
    told = outcome["data"]
    assert (told["base"]["owner"]["value"], told["base"]["title"]["value"]) == ("akim", None)
    assert told["digests"]["base"].keys() == {"title"}


async def test_transactions_count_when_they_are_committed_and_not_before(make_world: MakeWorld, server: Apache) -> None:
    world = await make_world(partitions=1)
    name = world.config.log.topic
    async with producing(server, transactional_id=name) as producer:
        async with producer.transaction():
            await producer.send_and_wait(name, text(event(KEYS[0], {"title": "committed"})), KEYS[0].encode())
        await producer.begin_transaction()
        await producer.send_and_wait(name, text(event(KEYS[1], {"title": "taken back"})), KEYS[1].encode())
        await producer.abort_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(name, text(event(KEYS[2], {"title": "open"})), KEYS[2].encode())
        assert (await world.converge()).counts[Status.SYNCED] == 1  # it ends, though offsets follow that it can't read
        async with world.running() as running:
            await running.until_settled()
            place, ends = Partition(name, 0), await running.daemon.log.ends()
            assert (running.daemon.ingest.reached[place], ends[place]) == (4, 4), (
                "no lag: what is open is not the log's"
            )
            await producer.commit_transaction()
            await running.until_status(KEYS[2], Status.SYNCED)
    assert [world.simulated.document(key)["title"] for key in (KEYS[0], KEYS[2])] == ["committed", "open"]
    assert world.simulated.document(KEYS[1])["title"] != "taken back"
    assert (await world.converge()).settled


async def test_a_compacted_log_with_gaps_up_to_its_end_folds_to_the_same(
    make_world: MakeWorld, server: Apache, topic: MakeTopic, tmp_path: Path
) -> None:
    name, rounds = f"{await topic(name='compacted')}-log", 12
    compaction = {"cleanup_policy": "compact", "min_cleanable_dirty_ratio": "0.01", "segment_bytes": str(1024**2)}
    await server.create_topic(name, 1, **compaction)
    world = await make_world(log={"topic": name})
    for number in range(rounds):
        given = {"title": f"title {number}", "owner": "akim"}
        await world.append(*(event(key, given, padding="x" * 8000) for key in KEYS))
    async with producing(server, transactional_id=name) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(name, text(event(DOCUMENT, {"title": "taken back"})), DOCUMENT.encode())
        await producer.abort_transaction()
    assert (await world.converge()).settled
    whole, writes = await projection(world), len(world.simulated.whole_history())
    async with asyncio.timeout(HANG_S):
        while len(await world.read(name)) > rounds * len(KEYS) * 2 // 3:  # each reading takes its time
            pass
    world.config = attrs.evolve(world.config, store=attrs.evolve(world.config.store, url=f"sqlite:///{tmp_path}/b.db"))
    assert (await world.converge()).settled
    assert await projection(world) == whole
    assert len(world.simulated.whole_history()) == writes, "nothing was written again"


async def projection(world: World) -> bytes:
    async with checks.opened(path_of(world.config.store.url)) as store:
        return await checks.projection(store)


# ------------------------------------------------------------------------------------------- a log that has forgotten


class Forgetful:
    """A program that has folded three events of a log with one partition, and the means to make that log forget."""

    def __init__(self, server: Apache, topic: MakeTopic, windchill: str, folder: Path) -> None:
        self.server = server
        names: dict[str, str] = {
            name: asyncio.run(topic(1, name))
            for name in ("topic", "decisions_topic", "outcomes_topic", "dead_letter_topic")
        }
        lines = [f"brokers = {json.dumps(server.brokers)}"] + [f'{key} = "{name}"' for key, name in names.items()]
        self.program, self.topic = Program(folder, windchill, "\n".join(lines)), names["topic"]
        self.emit(*KEYS[:3], title="before")
        self.program.say("run", "--once")

    def emit(self, *keys: str, title: str) -> None:
        for key in keys:
            self.program.emits(key, "--set", f"title={title}")

    def make_topic_again(self) -> None:
        asyncio.run(self._administer(lambda admin: admin.delete_topics([self.topic])))
        asyncio.run(self._make())

    def forget(self, before: int) -> None:
        """What retention does."""
        gone = {TopicPartition(self.topic, 0): RecordsToDelete(before)}
        asyncio.run(self._administer(lambda admin: admin.delete_records(gone)))

    async def _make(self) -> None:
        async with asyncio.timeout(HANG_S):
            while True:
                try:
                    return await self.server.create_topic(self.topic, 1)
                except errors.TopicAlreadyExistsError:  # deleting goes on behind the answer
                    await asyncio.sleep(0.1)

    async def _administer(self, act: Callable[[AIOKafkaAdminClient], Awaitable[object]]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.server.brokers)
        await admin.start()
        try:
            await act(admin)
        finally:
            await admin.close()


@pytest.fixture
def forgetful(server: Apache, topic: MakeTopic, simulated: Simulated, tmp_path: Path) -> Forgetful:
    return Forgetful(server, topic, simulated.url, tmp_path)


def test_a_topic_that_was_made_again_stops_the_program_until_a_person_accepts_it(forgetful: Forgetful) -> None:
    program = forgetful.program
    forgetful.make_topic_again()
    forgetful.emit(KEYS[3], title="after")
    for _ in range(2):
        said = program.fails("run", "--once")
        assert f"{forgetful.topic}/0: offset 3 comes next, but the log holds 0 up to 1" in said
        assert "--accept-truncation" in said
    assert program.document(KEYS[3])["title"] != "after"
    program.say("run", "--once", "--accept-truncation")
    assert [program.document(key)["title"] for key in KEYS[:4]] == ["before"] * 3 + ["after"]
    forgetful.emit(KEYS[4], title="later")
    program.say("run", "--once")
    assert program.document(KEYS[4])["title"] == "later"


def test_records_that_retention_took_before_they_were_read_stop_the_program_until_a_person_accepts_it(
    forgetful: Forgetful,
) -> None:
    program = forgetful.program
    forgetful.emit(KEYS[3], KEYS[4], title="after")
    forgetful.forget(4)
    said = program.fails("run", "--once")
    assert "offset 3 comes next, but the log holds 4 up to 5" in said
    assert "--accept-truncation" in said
    program.say("run", "--once", "--accept-truncation")
    assert program.document(KEYS[3])["title"] != "after"
    assert program.document(KEYS[4])["title"] == "after"
    forgetful.emit(KEYS[5], title="later")
    program.say("run", "--once")
    assert program.document(KEYS[5])["title"] == "later"


def test_retention_that_takes_nothing_but_the_end_of_a_transaction_is_nothing_to_stop_for(forgetful: Forgetful) -> None:
    async def publish() -> None:
        async with producing(forgetful.server, transactional_id=forgetful.topic) as producer, producer.transaction():
            await producer.send_and_wait(forgetful.topic, text(event(KEYS[3], {"title": "after"})), KEYS[3].encode())

    asyncio.run(publish())
    forgetful.program.say("run", "--once")
    forgetful.forget(5)  # the transaction's marker is at 4
    _decisions, row = forgetful.program.json("status")["log"]
    assert (row["position"], row["end"], row["lag"]) == (5, 5, 0)
    forgetful.program.say("run", "--once")


def test_retention_behind_our_position_is_nothing_to_stop_for(forgetful: Forgetful) -> None:
    forgetful.forget(3)
    forgetful.emit(KEYS[3], title="after")
    forgetful.program.say("run", "--once")
    assert forgetful.program.document(KEYS[3])["title"] == "after"
    assert [row["lag"] for row in forgetful.program.json("status")["log"]] == [0, 0]
    assert [check["result"] for check in forgetful.program.json("doctor") if check["check"] == "log"] == ["ok"]
