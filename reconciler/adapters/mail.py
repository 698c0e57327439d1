"""E-mail: sends messages through one SMTP server, over TLS unless told otherwise."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Literal

import aiosmtplib
import attrs
import structlog

from reconciler.adapters import tls
from reconciler.core.explain.messages import Message
from reconciler.core.explain.notices import Fault, Undelivered
from reconciler.core.explain.phrases import safe
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

_WHOLE_S = 30.0  # connecting, signing in and sending together


@attrs.frozen(kw_only=True)
class MailOptions:
    """The server that takes our mail, and who we are there."""

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    username: str
    password: str = attrs.field(repr=False)
    sender: str
    ca_file: Path | None = None


class Mail:
    """Sends each message to the same people."""

    def __init__(self, options: MailOptions, recipients: Sequence[str], clock: Clock) -> None:
        self._options = options
        self._recipients = tuple(recipients)
        self._clock = clock
        self._trust = tls.Trust(tls.Files(options.ca_file))

    async def send(self, message: Message) -> Undelivered | None:
        """Send a message once; return why it was not accepted, None if it was, for at least one of the people."""
        options = self._options
        self._trust.refresh()
        try:
            async with asyncio.timeout(_WHOLE_S):
                refused, _ = await aiosmtplib.send(
                    self._mail(message),
                    hostname=options.host,
                    port=options.port,
                    username=options.username or None,
                    password=options.password or None,
                    use_tls=options.security == "tls",
                    start_tls=options.security == "starttls",
                    tls_context=None if options.security == "none" else self._trust.context,
                )
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            return Undelivered("no answer in time")
        except aiosmtplib.SMTPRecipientsRefused as error:
            final = all(one.code >= 500 for one in error.recipients)
            said = f"the mail server refuses all recipients: {error.recipients[0].code} {error.recipients[0].message}"
            return Undelivered(safe(said), Fault.CONTENT if final else Fault.ENDPOINT)
        except aiosmtplib.SMTPResponseException as error:
            final = isinstance(error, aiosmtplib.SMTPDataError) and error.code >= 500
            said = f"the mail server says {error.code} {error.message}"
            return Undelivered(safe(said), Fault.CONTENT if final else Fault.ENDPOINT)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Undelivered(safe(f"the mail server can't be used: {error}"))
        if refused:
            _log.warning("the mail server refused some recipients", id=message.id, recipients=sorted(refused))
        return None

    async def close(self) -> None:
        """Do nothing: each message has a connection of its own."""

    def _mail(self, message: Message) -> EmailMessage:
        made = EmailMessage()
        made["From"] = self._options.sender
        made["To"] = ", ".join(self._recipients)
        made["Subject"] = safe(message.title)
        made["Date"] = format_datetime(datetime.fromtimestamp(self._clock.now_us() // 1_000_000, UTC))
        # The same when it is sent again, so that mail programs can see that it is the same.
        made["Message-ID"] = f"<{message.id}@{self._options.sender.rpartition('@')[2].rstrip('>')}>"
        made["Auto-Submitted"] = "auto-generated"  # RFC 3834: no one's absence is answered to us
        made.set_content(message.text)
        return made
