"""What can't be used ends in the dead-letter topic, whole, and keeps nothing else from going on."""

from aiokafka import AIOKafkaProducer

from tests.e2e.world import World, event

DOCUMENT = "0000000001"
STRUCTURED = ("content-type", b"application/cloudevents+json")
BINARY = [
    ("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"//erp"), ("ce_subject", DOCUMENT.encode()),
    ("ce_type", b"windchill.document.changed.v1"), ("ce_time", b"2026-11-01T00:00:00Z"),
    ("content-type", b"application/json"),
]  # fmt: skip
POISON = [
    (b"k\xff", b"not json \xff\x00", [STRUCTURED, ("x-own", b"\x00\xff")]),
    (DOCUMENT.encode(), b'{"set": {"title": "x"}, "sett": {}}', BINARY),
    (DOCUMENT.encode(), b"{", [*BINARY, ("__reconciler.errors.message", b"of an earlier time")]),
    (None, b"", []),
    (b"", b"[]", [STRUCTURED, ("x-null", None)]),
    (DOCUMENT.encode(), b'{"set": {"title": "x"}}', [("ce_id", b"\xff"), *BINARY[2:]]),
    (DOCUMENT.encode(), b"also not json", [("__reconciler.replay-of", b"\xff\xfe")]),
    (DOCUMENT.encode(), b"nor this", [("__reconciler.replay-of", None)]),
]


async def test_poison_of_both_modes_is_published_whole_and_the_rest_goes_on(world: World) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=list(world.config.log.brokers))
    await producer.start()
    for key, value, headers in POISON:
        await producer.send_and_wait(world.config.log.topic, value, key=key, headers=headers, partition=0)
    await producer.stop()
    await world.append(event(DOCUMENT, {"title": "good"}))
    summary = await world.converge()
    assert summary.dead_letters == len(POISON)
    assert world.simulated.document()["title"] == "good"
    letters = await world.read(world.config.log.dead_letter_topic)
    found = {dict(letter.headers)["__reconciler.errors.offset"]: letter for letter in letters}
    assert len(found) == len(letters) == len(POISON)
    for offset, (key, value, headers) in enumerate(POISON):
        letter = found[str(offset).encode()]
        assert (letter.key, letter.value) == (key, value)
        own = [(name, text) for name, text in letter.headers if not name.startswith("__reconciler.errors.")]
        assert own == [(name, text) for name, text in headers if not name.startswith("__reconciler.errors.")]
        errors = {name: text for name, text in letter.headers if name.startswith("__reconciler.errors.")}
        assert errors["__reconciler.errors.topic"] == world.config.log.topic.encode()
        assert errors["__reconciler.errors.partition"] == b"0"
        assert errors["__reconciler.errors.stage"]
        assert errors["__reconciler.errors.message"] != b"of an earlier time"


async def test_poison_is_published_once_although_it_is_met_again(world: World) -> None:
    poison = world.record(event(DOCUMENT))._replace(value=b"not json")
    await world.append(poison)
    for _ in range(2):
        assert (await world.converge()).dead_letters == 1
    assert len(await world.read(world.config.log.dead_letter_topic)) == 1
