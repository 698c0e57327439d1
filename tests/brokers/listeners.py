"""
One Apache Kafka with every kind of listener: plain, TLS, TLS with client certificates, SASL, tokens, and one behind
a proxy.

What a client needs to be let in by each of them is here too, in the words of `[log]`.
"""

from pathlib import Path
from typing import Any

from tests.brokers import apache
from tests.brokers.certificates import Authority
from tests.brokers.tokens import AUDIENCE, CLIENT, SECRET, TokenServer

USER, PASSWORD = "reconciler", "hunter2"
MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN")
_LISTENERS = {
    "PROXIED": "PLAINTEXT",
    "TLS": "SSL",
    "MUTUAL": "SSL",
    "SASL": "SASL_PLAINTEXT",
    "BOTH": "SASL_SSL",
    "OAUTH": "SASL_SSL",
}
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    f' username="broker" password="broker" user_{USER}="{PASSWORD}";'
)


class Listeners:
    """The broker (`server`), who vouches for it (`authority`), and how clients come in (`settings`)."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.stranger = Authority(folder / "known"), Authority(folder / "unknown")
        self.client = self.authority.sign("client")
        self.locked = self.authority.sign("locked", passphrase=PASSWORD)
        self.tokens = TokenServer()
        (self.proxy_port,) = apache.free_ports(1)
        self.server = apache.Apache(
            listeners=_LISTENERS,
            advertised={"PROXIED": f"{apache.HOST}:{self.proxy_port}"},
            properties=self._properties(),
            format_arguments=[
                f"--add-scram={mechanism}=[name={USER},password={PASSWORD}]" for mechanism in MECHANISMS[:2]
            ],
            jvm=[f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self.tokens.keys_url}"],
        )

    def settings(self, listener: str, mechanism: str = MECHANISMS[0]) -> dict[str, Any]:
        """What `[log]` has to say for a listener to let us in."""
        given: dict[str, Any] = {"brokers": (self.server.address(listener),)}
        if listener in ("TLS", "MUTUAL", "BOTH", "OAUTH"):
            given |= {"security": "ssl", "ca_file": str(self.authority.certificate)}
        if listener == "MUTUAL":
            given |= {"cert_file": str(self.client.certificate), "key_file": str(self.client.key)}
        if listener in ("SASL", "BOTH"):
            security = "sasl_plaintext" if listener == "SASL" else "sasl_ssl"
            given |= {"security": security, "sasl_mechanism": mechanism}
            given |= {"sasl_username": USER, "sasl_password": PASSWORD}
        if listener == "OAUTH":
            given |= {"security": "sasl_ssl", "sasl_mechanism": "OAUTHBEARER", "oauth_token_url": self.tokens.url}
            given |= {"oauth_client_id": CLIENT, "oauth_client_secret": SECRET}
        return given

    def _properties(self) -> dict[str, str]:
        given = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.authority.sign("broker").both),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            # Compaction at once and of everything but the segment that is written to.
            "log.cleaner.backoff.ms": "100",
        }
        for name in ("sasl", "both"):
            given[f"listener.name.{name}.sasl.enabled.mechanisms"] = ",".join(MECHANISMS)
            for mechanism in MECHANISMS:
                module = _PLAIN if mechanism == "PLAIN" else _SCRAM
                given[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = module
        oauth, bearer = "listener.name.oauth.", "org.apache.kafka.common.security.oauthbearer."
        given |= {
            f"{oauth}sasl.enabled.mechanisms": "OAUTHBEARER",
            f"{oauth}oauthbearer.sasl.jaas.config": f"{bearer}OAuthBearerLoginModule required;",
            f"{oauth}oauthbearer.sasl.server.callback.handler.class": f"{bearer}OAuthBearerValidatorCallbackHandler",
            f"{oauth}oauthbearer.sasl.oauthbearer.jwks.endpoint.url": self.tokens.keys_url,
            f"{oauth}oauthbearer.sasl.oauthbearer.expected.issuer": self.tokens.url,
            f"{oauth}oauthbearer.sasl.oauthbearer.expected.audience": AUDIENCE,
        }
        return given
