"""
What every Kafka client needs: options and how they become aiokafka's arguments, why brokers refuse it, and closing.

Never here: reading (`kafka`) and appending (`kafka_topic`).
"""

import asyncio
import ssl

import attrs
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, conn, errors, helpers
from aiokafka.abc import AbstractTokenProvider

from reconciler.adapters.kafka_tokens import TokenError
from reconciler.errors import ConfigError
from reconciler.model.limits import EVENT_BYTES_MAX

_log = structlog.get_logger()

COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")

_NOT_A_CONNECTIONS = ("bootstrap_servers", "metadata_max_age_ms")  # of what `connection` returns

STOP_S_MAX = 5.0  # for closing a client that may be stuck
ASK_S_MAX = 3.0  # for asking one broker why it refuses us


@attrs.frozen(kw_only=True)
class KafkaOptions:
    """How to reach the brokers, and limits. Times in seconds, sizes in bytes."""

    brokers: tuple[str, ...]
    """`host:port` of some brokers, which name the others."""
    topics: tuple[str, ...]
    """The topics that are read."""
    append_time: bool = False
    """Whether the broker must stamp the records: their timestamps rank claims."""
    client_id: str = "windchill-reconciler"
    """Our name in the broker's logs and quotas."""
    security: str = "plaintext"
    ca_file: str | None = None
    """PEM certificates to verify the brokers with; None: the system's."""
    cert_file: str | None = None
    """Our own certificate, if brokers ask for one; with `key_file`."""
    key_file: str | None = None
    key_password: str = attrs.field(default="", repr=False)
    """Of an encrypted `key_file`."""
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = attrs.field(default=None, repr=False)
    tokens: AbstractTokenProvider | None = attrs.field(default=None, repr=False, eq=False)
    """For OAUTHBEARER: who gives us tokens."""
    kerberos_service: str = "kafka"
    """For GSSAPI: the first part of the brokers' principals."""
    connect_timeout_s: float = 15.0
    """How long `open` tries: a broker that starts with us needs some seconds."""
    request_timeout_s: float = 20.0
    """For one answer of a broker."""
    delivery_timeout_s: float = 30.0
    """For the acknowledgements of one `append`."""
    metadata_age_s: float = 60.0
    """How soon a new partition of a topic is found."""
    stall_check_s: float = 30.0
    """How long no record may arrive before we ask the broker whether there is one."""
    fetch_wait_s: float = 0.5
    """How long a broker waits for records before it answers."""
    fetch_bytes: int = 50 * 1024 * 1024
    """The most that one broker sends at once, which limits what is prefetched."""
    partition_fetch_bytes: int = 4 * 1024 * 1024
    """The same for one partition. With Kafka's usual 1 MiB a replay waits between batches. Larger records pass too."""
    append_bytes_max: int = EVENT_BYTES_MAX
    """The largest record to append; a broker's `max.message.bytes` is 1 MiB too unless changed."""
    compression: str = attrs.field(default="none", validator=attrs.validators.in_(COMPRESSIONS))
    """Of appended records; snappy, lz4 and zstd need the extra `compression`."""


def connection(options: KafkaOptions) -> dict[str, object]:
    """Return the arguments of consumers and producers alike; raises ConfigError for unusable certificates."""
    context = None
    if options.security in {"ssl", "sasl_ssl"}:
        try:
            context = helpers.create_ssl_context(
                cafile=options.ca_file,
                certfile=options.cert_file,
                keyfile=options.key_file,
                # Without a password OpenSSL would ask for it on the terminal, where a daemon waits forever.
                password=options.key_password,
            )
        except OSError as error:  # ssl.SSLError is one
            files = [file for file in (options.ca_file, options.cert_file, options.key_file) if file]
            raise ConfigError(f"[log] {', '.join(files)}: can't be used for TLS: {error}") from error
    by_password = options.tokens is None and options.sasl_mechanism != "GSSAPI"
    if options.security.startswith("sasl") and by_password and not (options.sasl_username and options.sasl_password):
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
        "sasl_oauth_token_provider": options.tokens,
        "sasl_kerberos_service_name": options.kerberos_service,
    }


@attrs.frozen
class Refusal:
    """Why a broker that answers refuses us; `final` if waiting will not change that."""

    message: str
    final: bool


async def refusal(options: KafkaOptions) -> Refusal | None:
    """
    Ask the brokers why they refuse us; None if none of them answers.

    aiokafka only logs the reason, and raises the same for a wrong password as for a broker that is down.
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
            f"{broker} has a certificate that can't be trusted ({error.verify_message}): check [log] ca_file"
            " and the name of the broker",
            final=True,
        )
    except ssl.SSLError as error:
        return Refusal(f"{broker} can't agree on TLS ({error.reason}): check [log] security, cert_file, key_file", True)
    except TokenError as error:
        return Refusal(str(error), final=False)
    except errors.SaslAuthenticationFailed:
        if options.tokens is not None:
            return Refusal(
                f"{broker} refuses our token: check [log] oauth_client_id, oauth_scope (or aws_region)", True
            )
        said = f"{broker} refuses user {options.sasl_username} by {options.sasl_mechanism}"
        return Refusal(f"{said}: check [log] sasl_username, sasl_password, sasl_mechanism", final=True)
    except (errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError):
        said = f"{broker} does not accept SASL by {options.sasl_mechanism} on this port"
        return Refusal(f"{said}: check [log] security, sasl_mechanism", final=True)
    except (errors.KafkaConnectionError, ConnectionResetError, EOFError):
        return Refusal(
            f"{broker} closes the connection at once: check [log] security (does this port speak TLS or SASL?) and"
            " cert_file, key_file (does it ask for a certificate?)",
            final=False,  # a broker that is stopping does this too
        )
    except (errors.KafkaError, OSError):  # TimeoutError is one
        return None


async def stop(consumer: AIOKafkaConsumer) -> None:
    """Close a consumer within `STOP_S_MAX`; one that is stuck is abandoned."""
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await _stopped(consumer)
    except (TimeoutError, errors.KafkaError) as error:
        _log.warning("a Kafka client did not close properly", error=text(error))


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    """
    Stop, even with fetches under way.

    aiokafka cancels those that wait for an absent broker, and raises their cancellation as if it were ours.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        await consumer._client.close()  # noqa: SLF001  the rest of what `stop` does


async def abandon(producer: AIOKafkaProducer) -> None:
    """Stop without the flush of `AIOKafkaProducer.stop`, which waits forever for an absent broker; see its source."""
    producer._closed = True  # noqa: SLF001  no public way to stop without flushing
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await producer._sender.close()  # noqa: SLF001  as above
            await producer.client.close()
    except (TimeoutError, errors.KafkaError) as error:
        _log.warning("a Kafka client did not close properly", error=text(error))


def text(error: BaseException) -> str:
    """Return an error as text for a message; many of aiokafka's have only their name."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
