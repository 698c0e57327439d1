"""
TLS: which authorities we trust, and which certificate we show. No sockets: this module makes contexts for clients.

Rules
- Files that are replaced while we run, as Kubernetes and cert-manager do, are used from the next connection on. The
  context of a client can't be exchanged, but OpenSSL allows changing it: existing connections stay as they are, later
  ones use the files that were loaded last.
- Files that can't be used, such as a certificate whose key has not been replaced yet, change nothing: the loaded ones
  stay, and the files are tried again. One warning is logged, because otherwise only the next start would show it.
- An authority that was removed from `ca_file` stays trusted until a restart; a new one is trusted at once.
"""

import ssl
from functools import cache
from pathlib import Path

import attrs
import structlog

from reconciler.errors import ConfigError

_log = structlog.get_logger(__name__)

# TLS alerts for a missing or refused client certificate (RFC 8446 section 6.2). The server sends them before it reads a
# request, but with TLS 1.3 only after we have sent one.
_REFUSED = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for one: see cert_file",
    "TLSV1_ALERT_UNKNOWN_CA": "signed by an authority that it does not know",
    "SSLV3_ALERT_BAD_CERTIFICATE": "malformed, or not meant for clients",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "not accepted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "of a kind that it does not support",
    "TLSV1_ALERT_ACCESS_DENIED": "known, but not let in",
}
# OpenSSL's verdict on the server's certificate (X509_V_ERR_…), and what helps; for any other it is `ca_file`.
_RENEW, _OTHER_HOST = "renew it on the server, or check the clock here", "check the host in the address"
_REMEDIES = {9: _RENEW, 10: _RENEW, 62: _OTHER_HOST, 64: _OTHER_HOST}


@attrs.frozen
class Files:
    """PEM files. `certificate` and `key` are given together or not at all."""

    authorities: Path | None = None  # to trust instead of the system's
    certificate: Path | None = None
    key: Path | None = None


class Trust:
    """
    The context for one client's connections. `context` stays the same object; `refresh` brings it up to date.

    Raises ConfigError when the files can't be used.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._paths = [path for path in (files.authorities, files.certificate, files.key) if path is not None]
        self._seen = self._told = self._stamps()
        # Reading the system's authorities takes longer than many requests, so it is done once. A client with files of
        # its own gets its own context, since that will be changed.
        self.context = _loaded(files) if self._paths else _system()

    def refresh(self) -> None:
        """Load the files again if they were replaced. Files that can't be used are tried again by the next call."""
        if not self._paths:
            return
        stamps = self._stamps()
        if stamps == self._seen:
            return
        try:
            _loaded(self._files)  # into another context first: half a pair would leave ours with none
            _load(self.context, self._files)
        except ConfigError as error:
            if stamps != self._told:
                self._told = stamps
                _log.warning("certificate files can't be used, so the old ones stay in use", reason=str(error))
            return
        self._seen = self._told = stamps

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._paths]


def refusal(error: BaseException) -> str | None:
    """Return how the server refused our certificate, None if the error is another."""
    cause = _cause(error)
    if cause is None or cause.reason not in _REFUSED:
        return None
    return f"the server refuses our client certificate: {_REFUSED[cause.reason]} ({cause.reason})"


def disagreement(error: BaseException) -> str | None:
    """Return why TLS with the server failed, None if the error is another."""
    match _cause(error):
        case ssl.SSLCertVerificationError(verify_code=code, verify_message=said):
            remedy = _REMEDIES.get(code, "see ca_file")
            return f"the server's certificate can't be trusted ({said.rstrip('.')}): {remedy}"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" as reason):
            return f"the server speaks no TLS there ({reason}): is it http://, or another port?"
        case ssl.SSLError(reason="SSLV3_ALERT_HANDSHAKE_FAILURE" as reason):
            return f"the server does not agree on TLS ({reason}): does it ask for a client certificate? See cert_file"
        case _:
            return None


def _cause(error: BaseException) -> ssl.SSLError | None:
    """Return the innermost error: aiohttp wraps Python's own into an SSLError that says nothing."""
    found: ssl.SSLError | None = None
    cause: BaseException | None = error
    while cause is not None:
        found = cause if isinstance(cause, ssl.SSLError) else found
        cause = cause.__cause__ or cause.__context__
    return found


@cache
def _system() -> ssl.SSLContext:
    return ssl.create_default_context()


def _loaded(files: Files) -> ssl.SSLContext:
    own = files.authorities is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if own else ssl.create_default_context()
    _load(context, files)
    return context


def _load(context: ssl.SSLContext, files: Files) -> None:
    if files.authorities is not None:
        try:
            context.load_verify_locations(files.authorities)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"ca_file {files.authorities} can't be used ({error}); it must hold certificates as PEM"
            ) from error
    if files.certificate is not None and files.key is not None:
        _load_pair(context, files.certificate, files.key)


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for name, path in (("cert_file", certificate), ("key_file", key)):
        try:
            path.open("rb").close()
        except OSError as error:  # OpenSSL would not say which file
            raise ConfigError(f"{name} {path} can't be read: {error.strerror or error}") from error
    asked: list[bool] = []

    def no_password() -> str:  # without it OpenSSL would ask at the terminal, and a daemon would hang
        asked.append(True)
        return ""

    try:
        context.load_cert_chain(certificate, key, no_password)
    except OSError as error:
        if asked:
            raise ConfigError(f"key_file {key} is locked by a password; only a key without one can be used") from error
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"key_file {key} is not the key of cert_file {certificate}") from error
        raise ConfigError(
            f"cert_file {certificate} with key_file {key} can't be used ({error}); each must hold PEM"
        ) from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
