"""
What every client of Kafka's needs: the options, how they become aiokafka's arguments, why no broker lets it in, and how
it ends.

Never here: what is read or appended (`kafka`).
"""

import asyncio
import ssl

import attrs
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, conn, errors, helpers

from reconciler.errors import ConfigError

_log = structlog.get_logger()

SECURITY = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")

_NOT_A_CONNECTIONS = ("bootstrap_servers", "metadata_max_age_ms")  # of what `connection` returns

APPEND_BYTES_MAX = 1024 * 1024
STOP_S_MAX = 5.0  # for closing a client that may be stuck
ASK_S_MAX = 3.0  # for asking one broker why it does not let us in


@attrs.frozen(kw_only=True)
class KafkaOptions:
    """How to reach the brokers and how much to ask of them. Times in seconds, sizes in bytes."""

    brokers: tuple[str, ...]
    """`host:port` of some brokers; they name the others."""
    topics: tuple[str, ...]
    """The topics that are read."""
    append_time: bool = False
    """Reading needs records that the broker has stamped: their timestamps rank claims."""
    client_id: str = "windchill-reconciler"
    """What the broker's own logs and quotas call us."""
    security: str = attrs.field(default="plaintext", validator=attrs.validators.in_(SECURITY))
    ca_file: str | None = None
    """PEM certificates that vouch for the brokers; None: the system's."""
    cert_file: str | None = None
    """Our own certificate, where brokers ask for one; with `key_file`."""
    key_file: str | None = None
    key_password: str | None = attrs.field(default=None, repr=False)
    sasl_mechanism: str = attrs.field(default="PLAIN", validator=attrs.validators.in_(SASL_MECHANISMS))
    sasl_username: str | None = None
    sasl_password: str | None = attrs.field(default=None, repr=False)
    connect_timeout_s: float = 15.0
    """How long `open` tries: a broker that starts together with us needs some seconds."""
    request_timeout_s: float = 20.0
    """For one answer of a broker."""
    delivery_timeout_s: float = 30.0
    """For the acknowledgements of one `append`."""
    metadata_age_s: float = 60.0
    """How soon a partition that was added to a topic is found."""
    stall_check_s: float = 30.0
    """How long nothing may arrive before the broker is asked whether there is something."""
    fetch_wait_s: float = 0.5
    """How long a broker holds a request for records that has nothing to answer."""
    fetch_bytes: int = 50 * 1024 * 1024
    """The most that one broker sends at once, of all partitions together: the bound on what is prefetched."""
    partition_fetch_bytes: int = 4 * 1024 * 1024
    """The same of one partition. With Kafka's usual 1 MiB a replay waits between batches. Larger records still come."""
    append_bytes_max: int = APPEND_BYTES_MAX
    """The largest record to append; a broker's `max.message.bytes` is 1 MiB too unless it was changed."""
    idempotent: bool = True
    """Let brokers recognise repeated sends. Off only for brokers that don't know `InitProducerId`."""
    compression: str = attrs.field(default="none", validator=attrs.validators.in_(COMPRESSIONS))
    """Of what we append; snappy, lz4 and zstd need the extra `compression`."""


def connection(options: KafkaOptions) -> dict[str, object]:
    """Return what consumers and producers have in common; raises ConfigError for certificates that can't be used."""
    context = None
    if options.security in {"ssl", "sasl_ssl"}:
        try:
            context = helpers.create_ssl_context(
                cafile=options.ca_file,
                certfile=options.cert_file,
                keyfile=options.key_file,
                # Without one, OpenSSL would ask for it on the terminal, and a daemon would wait there for ever.
                password=options.key_password or "",
            )
        except OSError as error:  # ssl.SSLError is one
            files = [file for file in (options.ca_file, options.cert_file, options.key_file) if file]
            raise ConfigError(f"[log] {', '.join(files)}: can't be used for TLS: {error}") from error
    if options.security.startswith("sasl") and not (options.sasl_username and options.sasl_password):
        raise ConfigError(f'[log] security = "{options.security}" needs sasl_username and sasl_password')
    return {
        "bootstrap_servers": list(options.brokers),
        "client_id": options.client_id,
        "request_timeout_ms": int(options.request_timeout_s * 1000),
        "metadata_max_age_ms": int(options.metadata_age_s * 1000),
        "security_protocol": options.security.upper(),
        "ssl_context": context,
        "sasl_mechanism": options.sasl_mechanism,
        "sasl_plain_username": options.sasl_username,
        "sasl_plain_password": options.sasl_password,
    }


@attrs.frozen
class Refusal:
    """Why a broker that is there does not let us in; `final` when waiting will not change that."""

    message: str
    final: bool


async def refusal(options: KafkaOptions) -> Refusal | None:
    """
    Ask the brokers why they don't let us in; None when none of them is there.

    aiokafka tells its log only, and raises the same for a wrong password as for a broker that is down.
    """
    found = None
    for host, port, _ in conn.collect_hosts(list(options.brokers)):
        said = await _refusal_of(host, port, options)
        if said is not None and said.final:
            return said
        found = found or said
    return found


async def _refusal_of(host: str, port: int, options: KafkaOptions) -> Refusal | None:
    given = {name: value for name, value in connection(options).items() if name not in _NOT_A_CONNECTIONS}
    broker = f"the broker at {host}:{port}"
    try:
        async with asyncio.timeout(ASK_S_MAX):
            made = await conn.create_conn(host, port, **given)
        made.close()
        return None
    except ssl.SSLCertVerificationError as error:
        return Refusal(
            f"{broker} shows a certificate that can't be trusted ({error.verify_message}): see [log] ca_file, and under"
            " which name the broker is addressed",
            final=True,
        )
    except ssl.SSLError as error:
        return Refusal(
            f"{broker} does not agree on TLS ({error.reason}): see [log] security, cert_file, key_file", True
        )
    except errors.SaslAuthenticationFailed:
        said = f"{broker} refuses user {options.sasl_username} by {options.sasl_mechanism}"
        return Refusal(f"{said}: see [log] sasl_username, sasl_password, sasl_mechanism", final=True)
    except (errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError):
        said = f"{broker} does not take SASL by {options.sasl_mechanism} on this port"
        return Refusal(f"{said}: see [log] security, sasl_mechanism", final=True)
    except (errors.KafkaConnectionError, ConnectionResetError, EOFError):
        return Refusal(
            f"{broker} closes the connection at once: see [log] security (does this port speak TLS or SASL?) and"
            " cert_file, key_file (does it ask for a certificate?)",
            final=False,  # a broker that is stopping does so too
        )
    except (errors.KafkaError, OSError):  # TimeoutError is one
        return None


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Close a consumer within `STOP_S_MAX`; one that is stuck is left behind."""
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await _stopped(consumer)
    except (TimeoutError, errors.KafkaError) as error:
        _log.warning("a client did not close in good order", error=text(error))


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """
    Stop, whatever becomes of the fetches under way.

    aiokafka cancels those that wait for an absent broker, and lets their cancellation out as if it were ours.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await consumer._client.close()  # noqa: SLF001  what `stop` did not come to


async def abandon(producer: AIOKafkaProducer) -> None:
    """Stop without the flush of `AIOKafkaProducer.stop`, which waits for an absent broker for ever; see its source."""
    producer._closed = True  # noqa: SLF001  no public way to stop without flushing
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await producer._sender.close()  # noqa: SLF001  as above
            await producer.client.close()
    except (TimeoutError, errors.KafkaError) as error:
        _log.warning("a client did not close in good order", error=text(error))


def text(error: BaseException) -> str:
    """Return an error as it stands in a message; many of aiokafka's say nothing but their name."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
