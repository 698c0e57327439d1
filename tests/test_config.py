"""What a configuration file, the environment and secret files come to, and what is said when they can't be used."""

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reconciler import config
from reconciler.config import loading
from reconciler.config.groups import GROUPS
from reconciler.config.values import is_secret
from reconciler.errors import ConfigError
from reconciler.model.policy import DEFAULT_RULES, Adopt, ListMode, Normaliser, Rule, Strategy
from schemas import generate

KEYS = [(section, key) for section in GROUPS for key in loading.keys(section)]
SECRETS = [
    (section, field.name) for section, group in GROUPS.items() for field in attrs.fields(group) if is_secret(field.type)
]
LETTERS = "abcdefghijklmnopqrstuvwxyz_"
CANARY = "canary-8f1c-7d2e"
WEBHOOK_KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """A function that writes a TOML file and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "reconciler.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults(path: Path | None, **environ: str) -> list[str]:
    """The lines of the error, each without the file's folder."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ)
    return [line.replace(f"{path.parent}/", "") if path else line for line in str(caught.value).splitlines()]


# ------------------------------------------------------------------------------------------------------------ defaults


def test_without_file_and_environment_every_key_has_its_documented_default() -> None:
    found = config.load(None, {})
    assert found == config.Config(policy=found.policy)
    assert found.policy.rules == DEFAULT_RULES
    assert (found.log.kind, found.log.brokers, found.log.max_clock_skew_s) == ("kafka", ("localhost:9092",), 300)
    assert (found.windchill.dialect, found.windchill.in_flight_max, found.windchill.timeout_s) == ("documents", 16, 30)
    assert attrs.astuple(found.retry) == (5, 1, 60, 60, 900, 604_800)
    assert (found.resync.interval_s, found.admin.bind, found.notify.webhook_url) == (600, "127.0.0.1:8090", "")


def test_the_defaults_keep_to_the_limits_they_are_documented_with() -> None:
    stated = {
        loading.variable(line.section, line.key): line.value if isinstance(line.value, str) else json.dumps(line.value)
        for line in config.shown(config.load(None, {}))
        if line.section in GROUPS
    }
    given_back = config.load(None, {name: str(value) for name, value in stated.items()})
    assert attrs.evolve(given_back, policy=None) == attrs.evolve(config.Config(), policy=None)


def test_every_key_says_what_it_means() -> None:
    sections = generate.config_schema()["properties"]
    tables = [sections.get(name, {}) for name in GROUPS] + [sections["policy"]["items"]]
    assert [len(table["properties"]) for table in tables[:-1]] == [len(loading.keys(name)) for name in GROUPS]
    assert all(about["description"] for table in tables for about in table["properties"].values())


# ----------------------------------------------------------------------------------------------------------- the file


def test_a_missing_file_is_named() -> None:
    assert faults(Path("/nowhere/r.toml")) == ["r.toml: can't be read: No such file or directory"]


@pytest.mark.parametrize(
    "content", [b"[log", b"a = \xff", b"[log]\n[log]\n", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000]
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    assert faults(path)[0].startswith("r.toml: is not TOML: ")


def test_every_fault_is_reported_at_once_and_each_on_its_own_line(written: Any) -> None:
    path = written('[log]\nkind = "kafak"\n"to\\npik" = 1\n[retry]\nconflict_attempts_max = 0\n')
    found = faults(path, RECONCILER_WINDCHILL__IN_FLIGHT_MAX="many")
    assert [line.split(": ", 1)[0] for line in found] == [
        "reconciler.toml:log.to pik",
        "reconciler.toml:log.kind",
        "RECONCILER_WINDCHILL__IN_FLIGHT_MAX",
        "reconciler.toml:retry.conflict_attempts_max",
    ]


BASIC = '[windchill]\nauth = "basic"\nusername = "u"\npassword = "p"\nbase_url = '
SASL = '[log]\nsecurity = "sasl_plaintext"\nsasl_username = "u"\nsasl_password = "p"\nbrokers = '
OAUTH2 = """\
[windchill]
auth = "oauth2"
client_id = "c"
client_secret = "s"
base_url = "https://plm.example.com"
oauth2_token_url = """

WRONG = [
    ('[log]\nkind = "kafak"', 'log.kind: must be one of "file", "kafka", not "kafak"'),
    (
        '[log]\nbrokers = "a:1"',
        'log.brokers: must be a list with at least one entry, each a broker\'s host:port, not "a:1"',
    ),
    ('[log]\nbrokers = ["a"]', 'log.brokers: must be a broker\'s host:port, not "a"'),
    ('[log]\nbrokers = ["a:70000"]', 'log.brokers: must be a broker\'s host:port, not "a:70000"'),
    ("[log]\nbrokers = []", "log.brokers: must be a list with at least one entry, each a broker's host:port, not []"),
    ('[log]\ngroup = ""', 'log.group: must be a text that is not empty, not ""'),
    (
        "[log]\nmax_clock_skew_s = -1",
        "log.max_clock_skew_s: must be a number of at least 0 and at most 315360000 (3650 days), not -1",
    ),
    (
        "[log]\nmax_clock_skew_s = nan",
        "log.max_clock_skew_s: must be a number of at least 0 and at most 315360000 (3650 days), not NaN",
    ),
    pytest.param(f"[windchill]\ntimeout_s = {'9' * 400}", "windchill.timeout_s: must be a number", id="for no float"),
    ("[windchill]\ntimeout_s = 0", "windchill.timeout_s: must be a number above 0 and at most 3600 (1 h), not 0"),
    ("[windchill]\ntimeout_s = true", "windchill.timeout_s: must be a number above 0 and at most 3600 (1 h), not true"),
    (
        "[log]\nrecord_bytes_max = 1",
        "log.record_bytes_max: must be a whole number of at least 1024 (1 KiB) and at most 67108864 (64 MiB), not 1",
    ),
    (
        "[admin]\nsession_s = 1",
        "admin.session_s: must be a number of at least 60 (1 min) and at most 2592000 (30 days)",
    ),
    ('[[log.topics]]\nname = "a b"\nsources = ["x"]', "log.topics[1].name: must be a topic's name"),
    ('[[log.topics]]\nname = "a"\nsources = []', "log.topics[1].sources: must be a list with at least one entry, each"),
    ('[log]\ntopics = "a"', "log.topics: must be a list of tables with name and sources; write each as [[log.topics]]"),
    ('[log]\ntopics = ["a"]', "log.topics[1]: must be a table with name and sources"),
    ('[log]\ntopic = "a\\nb"', "log.topic: must be a topic's name"),
    ('[log]\ntopic = "a\\n"', "log.topic: must be one line of UTF-8 without control characters, not "),
    ('[log]\ngroup = "a\\nb"', 'log.group: must be one line of UTF-8 without control characters, not "a\\nb"'),
    (
        '[admin]\noidc_viewer = ["a", "\\u0007"]',
        "admin.oidc_viewer: must be one line of UTF-8 without",
    ),
    (
        "[windchill]\nin_flight_max = 2.0",
        "windchill.in_flight_max: must be a whole number of at least 1 and at most 1000, not 2.0",
    ),
    ('[windchill]\nmaintenance = "true"', 'windchill.maintenance: must be true or false, not "true"'),
    ("[windchill]\nmaintenance = 1", "windchill.maintenance: must be true or false, not 1"),
    ('[windchill]\nusername = "a\\nb"', "windchill.username: must be one line of UTF-8 without control characters"),
    (
        "[windchill]\nbase_url = 'windchill.example'",
        "windchill.base_url: must be an http:// or https:// address without",
    ),
    ("[windchill]\nbase_url = 'http://u:p@h'", "windchill.base_url: must be an http:// or https:// address without"),
    ("[retry]\nbackoff_max_s = 0.5", "retry.backoff_max_s: retry.backoff_base_s must not be above retry.backoff_max_s"),
    ("log = 3", "log: must be a section; write [log]"),
    ("topic = 'x'", "topic: unknown key outside any section; did you mean log.topic?"),
    ("[[log]]", "log: must be a section; write [log]"),
    ("[logs]", "logs: unknown section; did you mean log?"),
    ("[[polices]]", "polices: unknown section; did you mean policy?"),
    ("[zzz]", "zzz: unknown section; known are log, schemas, store, windchill, canary, retry, resync, admin, notify"),
    ("[windchill]\npoll_s = 3", "windchill.poll_s: unknown key; did you mean resync.poll_s?"),
    ("[store]\nzzz = 3", "store.zzz: unknown key; known are url"),
    (
        '[log]\ntopic = "same"\noutcomes_topic = "same"',
        "log.topic: same is named twice; change topics, decisions_topic,",
    ),
    ('[log]\ncert_file = "c.pem"', "log.cert_file: cert_file and key_file are given together or not at all"),
    ('[log]\nsecurity = "sasl_ssl"', 'log.security: "sasl_ssl" needs log.sasl_username and log.sasl_password'),
    ('[windchill]\nauth = "basic"\nusername = "u"', 'windchill.auth: "basic" needs windchill.password'),
    ('[windchill]\nauth = "bearer"', 'windchill.auth: "bearer" needs windchill.token'),
    (
        f'{BASIC}"http://plm.example.com/api"',
        "windchill.base_url: anyone in between can read the credentials of auth =",
    ),
    (
        f'{OAUTH2}"http://idp.example.com/token"',
        "windchill.oauth2_token_url: anyone in between can read windchill.client_secret; use https://, or set",
    ),
    (f'{SASL}["[::1]:1", "kafka:9092"]', "log.security: anyone between us and kafka:9092 can read along and try"),
    (
        '[windchill]\nauth = "oauth2"',
        'windchill.auth: "oauth2" needs windchill.oauth2_token_url and windchill.client_id and',
    ),
    ('[notify]\nwebhook_url = "https://h/"', "notify.webhook_url: needs notify.webhook_secret, to sign with"),
    ('[notify]\nwebhook_secret = "short"', 'notify.webhook_secret: must be "whsec_" and a key in base64'),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_value_is_answered_with_its_place_and_what_is_allowed(written: Any, text: str, message: str) -> None:
    assert [line[: len(message) + 16] for line in faults(written(text))] == [f"reconciler.toml:{message}"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]"])
def test_credentials_may_go_unencrypted_within_this_machine(written: Any, host: str) -> None:
    config.load(written(f'{BASIC}"http://{host}:8085/odata"\n{SASL}["{host}:9092"]'), {})


@pytest.mark.parametrize("host", ["127.0.0.1.example.com", "localhost.example.com", "2130706433", "127.1", "[::2]"])
def test_credentials_go_unencrypted_to_other_machines_only_if_a_setting_says_so(written: Any, host: str) -> None:
    wrong = f'{BASIC}"http://{host}:8085/odata"\n{SASL}["{host}:9092"]'
    assert len(faults(written(wrong))) == 2
    allowed = {"RECONCILER_WINDCHILL__PLAIN_HTTP": "true", "RECONCILER_LOG__PLAIN_SASL": "true"}
    assert config.load(written(wrong), allowed).windchill.auth == "basic"


@pytest.mark.parametrize("bind", ["127.0.0.1:8090", "127.9.9.9:0", "localhost:65535", "[::1]:8090", ""])
def test_the_admin_api_binds_to_loopback(bind: str) -> None:
    assert config.load(None, {"RECONCILER_ADMIN__BIND": bind}).admin.bind == bind


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:8090", "[::]:8090", "10.0.0.1:8090", "127.0.0.1.example.com:1", "localhost.example.com:1"]
)
def test_the_admin_api_binds_to_nothing_but_loopback_unless_people_are_asked_who_they_are(bind: str) -> None:
    (fault,) = faults(None, RECONCILER_ADMIN__BIND=bind)
    assert fault.startswith(f"RECONCILER_ADMIN__BIND: others can reach {bind}, so it needs admin.tokens_file")
    asked = {"RECONCILER_ADMIN__BIND": bind, "RECONCILER_ADMIN__TOKENS_FILE": "tokens"}
    assert config.load(None, asked).admin.bind == bind


PROVIDER = {
    "RECONCILER_ADMIN__OIDC_ISSUER": "https://login.example.com/realms/acme",
    "RECONCILER_ADMIN__OIDC_AUDIENCE": "reconciler-api",
    "RECONCILER_ADMIN__OIDC_CLIENT_ID": "reconciler",
    "RECONCILER_ADMIN__EXTERNAL_URL": "https://reconciler.example.com",
}


def test_an_identity_provider_asks_people_who_they_are_too() -> None:
    admin = config.load(None, PROVIDER | {"RECONCILER_ADMIN__BIND": "0.0.0.0:8090"}).admin
    assert admin.oidc_algorithms == ("RS256", "ES256")


@pytest.mark.parametrize(
    ("over", "fault"),
    [
        ({"OIDC_AUDIENCE": "", "OIDC_CLIENT_ID": ""}, "OIDC_ISSUER: needs admin.oidc_audience (for programs), or"),
        ({"OIDC_ISSUER": "http://login.example.com"}, "OIDC_ISSUER: needs https://, unless the provider is on this"),
        ({"OIDC_ISSUER": "http://127.0.0.1.example.com"}, "OIDC_ISSUER: needs https://"),
        ({"OIDC_ISSUER": "https://x/?a=b#c"}, "OIDC_ISSUER: must be an https:// address"),
        ({"EXTERNAL_URL": ""}, "OIDC_CLIENT_ID: needs admin.external_url"),
        ({"EXTERNAL_URL": "http://reconciler.example.com"}, "EXTERNAL_URL: needs https:// when people sign in"),
        ({"EXTERNAL_URL": "https://x/path"}, "EXTERNAL_URL: must be an address without a path"),
        ({"OIDC_CLIENT_ID": "", "OIDC_CLIENT_SECRET": "canary"}, "OIDC_CLIENT_SECRET: needs admin.oidc_client_id"),
        ({"OIDC_VIEWER": "", "OIDC_OPERATOR": "", "OIDC_ADMIN": ""}, "OIDC_VIEWER: without a word for any role no one"),
        ({"OIDC_ALGORITHMS": "none"}, "OIDC_ALGORITHMS: must be RS256, ES256"),
        ({"OIDC_ALGORITHMS": "RS256,HS256"}, "OIDC_ALGORITHMS: must be"),
        ({"SESSION_KEY": "short"}, "SESSION_KEY: must be at least 32 characters"),
    ],
    ids=str,
)
def test_settings_of_signing_in_that_do_not_go_together_are_named(over: dict[str, str], fault: str) -> None:
    given = PROVIDER | {f"RECONCILER_ADMIN__{key}": text for key, text in over.items()}
    found = faults(None, **given)
    assert any(one.startswith(f"RECONCILER_ADMIN__{fault}") for one in found), found
    assert not any("canary" in one for one in found)


@pytest.mark.parametrize("key", ["OIDC_AUDIENCE", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"])
def test_what_is_for_a_provider_needs_one(key: str) -> None:
    (fault,) = faults(None, **{f"RECONCILER_ADMIN__{key}": "x"})
    assert fault == f"RECONCILER_ADMIN__{key}: needs admin.oidc_issuer"


@pytest.mark.parametrize("key", ["AUDIT_D", "CONFLICTS_D", "DEAD_LETTERS_D"])
def test_what_is_to_be_archived_needs_a_place(key: str) -> None:
    (fault,) = faults(None, **{f"RECONCILER_RETENTION__{key}": "30"})
    assert fault == f"RECONCILER_RETENTION__{key}: needs retention.archive, to archive in"


@pytest.mark.parametrize("bind", [":8090", "127.0.0.1", "127.0.0.1:65536", "a b:1", "user@host:1", "host:port"])
def test_what_is_no_address_is_none_with_tokens_either(bind: str) -> None:
    (fault,) = faults(None, RECONCILER_ADMIN__BIND=bind, RECONCILER_ADMIN__TOKENS_FILE="tokens")
    assert "must be a host:port" in fault


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///state.db",
        "sqlite:////var/lib/r.db",
        "postgresql://host/db",
        "postgres://user@host/db",
        "postgresql://user@10.0.0.1:5432,[::1]:5433/db",
    ],
)
def test_a_store_is_a_file_or_a_database(url: str) -> None:
    assert config.load(None, {"RECONCILER_STORE__URL": url}).store.url == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@host/db",
        "postgresql://user@host/db?sslmode=disable",
        "postgresql://user@host/db?password=hunter2",
        "postgresql://user@host",
        "postgresql+asyncpg://user@host/db",
    ],
)
def test_a_stores_password_and_options_have_keys_of_their_own(url: str) -> None:
    (fault,) = faults(None, RECONCILER_STORE__URL=url)
    assert "store.password_file (or PGPASSFILE) and store.sslmode" in fault
    assert "hunter2" not in fault


# ------------------------------------------------------------------------------------------------------ the environment


READ = [
    *(("LOG__BROKERS", text, ("a:1", "b:2")) for text in ("a:1,b:2", " a:1 , b:2, ", '["a:1", "b:2"]')),
    *(("WINDCHILL__MAINTENANCE", text, True) for text in ("true", "1", "ON")),
    *(("WINDCHILL__MAINTENANCE", text, False) for text in ("no", "False")),
    *(("WINDCHILL__TIMEOUT_S", text, value) for text, value in (("45", 45.0), (" 0.5 ", 0.5), ("1e2", 100.0))),
    *(("WINDCHILL__TIMEOUT_S", ".5", 0.5), ("RESYNC__POLL_S", "+5.", 5.0), ("WINDCHILL__PAGE_SIZE", "0200", 200)),
]


@pytest.mark.parametrize(("name", "text", "value"), READ)
def test_lists_truths_and_numbers_in_the_environment_are_read_as_people_write_them(
    name: str, text: str, value: object
) -> None:
    section, _, key = name.lower().partition("__")
    found = getattr(getattr(config.load(None, {f"RECONCILER_{name}": text}), section), key)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "many", "1e400", "nan", "inf", "٣", "1_000", "0x10", "9" * 5000])
def test_a_text_that_is_no_number_is_refused(text: str) -> None:
    assert "must be a number above 0" in faults(None, RECONCILER_WINDCHILL__TIMEOUT_S=text)[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *((name, "LOG__TOPIC") for name in ("LOG__TOPIK", "LOGG__TOPIC", "LOG_TOPIC", "log__topic")),
        ("WINDCHILL__PASSWORD_FIEL", "WINDCHILL__PASSWORD_FILE"),
    ],
)
def test_a_misspelt_variable_is_an_error_that_names_the_right_one(name: str, meant: str) -> None:
    said = f"RECONCILER_{name}: unknown variable; did you mean RECONCILER_{meant}?"
    assert faults(None, **{f"RECONCILER_{name}": "x"}) == [said]


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_no_keys() -> None:
    environ = {"RECONCILER_SERVICE_HOST": "10.0.0.1", "RECONCILER_PORT_8090_TCP_ADDR": "10.0.0.1", "PATH": "/bin"}
    config.load(None, environ)


# ------------------------------------------------------------------------------------------------------------- secrets


def test_a_secret_file_gives_its_content_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n", encoding="utf-8")
    environ = {"RECONCILER_WINDCHILL__AUTH": "bearer", "RECONCILER_WINDCHILL__TOKEN_FILE": str(tmp_path / "token")}
    assert config.load(None, environ).windchill.token == CANARY


def test_where_a_secret_came_from_is_remembered_for_whoever_reads_it_again(written: Any, tmp_path: Path) -> None:
    for name in ("token", "hook"):
        (tmp_path / name).write_text("sixteen-letters-", encoding="utf-8")
    path = written(f'[windchill]\ntoken_file = "{tmp_path}/token"\npassword = "plain"\n')
    found = config.load(path, {"RECONCILER_ADMIN__HOOK_SECRET_FILE": str(tmp_path / "hook")})
    assert found.secret_files == {"windchill.token": tmp_path / "token", "admin.hook_secret": tmp_path / "hook"}


def test_a_secret_file_in_the_environment_overrides_a_secret_in_the_file(written: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("new", encoding="utf-8")
    path = written('[windchill]\ntoken = "old"\n')
    assert config.load(path, {"RECONCILER_WINDCHILL__TOKEN_FILE": str(tmp_path / "token")}).windchill.token == "new"


def test_several_keys_of_before_are_a_line_each(tmp_path: Path) -> None:
    keys = [letter * 43 + "=" for letter in "AB"]
    (tmp_path / "previous").write_text("\n".join(keys) + "\n", encoding="utf-8")
    given = {"": "C" * 43 + "=", "_PREVIOUS_FILE": str(tmp_path / "previous")}
    environ = {f"RECONCILER_LOG__SIGNING_KEY{name}": text for name, text in given.items()}
    assert config.load(None, environ).log.signing_key_previous.split() == keys


def test_a_secret_given_twice_in_one_place_is_an_error(written: Any) -> None:
    path = written('[windchill]\ntoken = "a"\ntoken_file = "b"\n')
    assert faults(path) == ["reconciler.toml:windchill.token: give either token or token_file, not both"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"a\nb\n", b"x" * 70_000, None])
def test_a_secret_file_that_holds_no_secret_is_named_and_not_quoted(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    (found,) = faults(None, RECONCILER_WINDCHILL__TOKEN_FILE=str(path))
    assert found.startswith("RECONCILER_WINDCHILL__TOKEN_FILE: ")
    assert "a\nb" not in found
    assert "xxx" not in found


FILES = [(section, key) for section, key in KEYS if key.endswith("_file")]


@pytest.mark.parametrize(("section", "key"), FILES)
def test_a_file_is_no_pipe_and_no_folder_and_no_link_to_one(section: str, key: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        (fault,) = faults(None, **{loading.variable(section, key): str(tmp_path / name)})
        assert fault.endswith(" is not a regular file; write the content to a file, and give the path of that")


def test_a_secret_file_may_be_a_link_as_kubernetes_makes_them(tmp_path: Path) -> None:
    (tmp_path / "..data").write_text(CANARY, encoding="utf-8")
    (tmp_path / "token").symlink_to("..data")
    found = config.load(None, {"RECONCILER_WINDCHILL__TOKEN_FILE": str(tmp_path / "token")})
    assert found.windchill.token == CANARY


PASTED = [CANARY, f"/{CANARY}/ab+c==", f"ab/{CANARY}", f"https://host/{CANARY}", CANARY * 30, f"-----\n{CANARY}\n"]


@pytest.mark.parametrize("text", PASTED)
def test_a_secret_that_is_given_as_its_own_file_is_not_quoted(text: str) -> None:
    for section, key in FILES:
        if key.removesuffix("_file") in {secret for _, secret in SECRETS} or "\n" in text:
            (fault,) = faults(None, **{loading.variable(section, key): text})
            assert fault.startswith(f"{loading.variable(section, key)}: ")
            assert "the path of a file" in fault or "one line" in fault
            assert CANARY not in fault


def test_a_secret_file_that_is_not_there_is_named_where_its_path_leads_somewhere(tmp_path: Path) -> None:
    path = tmp_path / "not-mounted" / "token"
    (fault,) = faults(None, RECONCILER_WINDCHILL__TOKEN_FILE=str(path))
    reason = "can't be read: No such file or directory; give the path of a file that holds the secret"
    assert fault == f"RECONCILER_WINDCHILL__TOKEN_FILE: {path} {reason}"


@pytest.mark.parametrize(("section", "key"), SECRETS)
def test_secrets_never_appear_in_the_listing_or_in_a_representation(section: str, key: str) -> None:
    fitting = {"webhook_url": f"https://h/{CANARY}", "webhook_secret": f"{WEBHOOK_KEY}secret8f1c"}
    of_bytes = 32 * "k" + "secret8f1c" + "AA"
    fitting |= {"targets": f"plm json://{CANARY}"}
    fitting |= {"session_key": 32 * "k" + CANARY, "signing_key": of_bytes, "signing_key_previous": of_bytes}
    value = fitting.get(key, CANARY)
    needed = {
        "RECONCILER_NOTIFY__WEBHOOK_SECRET": f"{WEBHOOK_KEY}secret8f1c",
        "RECONCILER_LOG__SIGNING_KEY": of_bytes,
        **PROVIDER,
    }
    environ = needed | {loading.variable(section, key): value}
    lines = config.shown(config.load(None, environ))
    assert "8f1c" not in repr(lines)
    assert config.MASK in {line.value for line in lines if (line.section, line.key) == (section, key)}
    assert "8f1c" not in repr(config.load(None, environ))


@given(
    secret=st.sampled_from(SECRETS),
    junk=st.sampled_from(["\n", "\x00", "@", '"', "\\", "é", "]", "://"]),
    as_list=st.booleans(),
)
def test_secrets_never_appear_in_an_error(secret: tuple[str, str], junk: str, as_list: bool) -> None:
    text = f"{junk}{CANARY}{junk}"
    environ = {
        loading.variable(*secret): json.dumps([text]) if as_list else text,
        "RECONCILER_WINDCHILL__BASE_URL": f"http://user:{CANARY}@host",
        "RECONCILER_STORE__URL": f"postgresql://user:{CANARY}@host/db",
        "RECONCILER_LOG__BROKERS": f"[user:{CANARY}@host:1",
        "RECONCILER_LOG__KIND": "wrong",
    }
    with pytest.raises(ConfigError) as caught:
        config.load(None, environ)
    assert "RECONCILER_LOG__KIND" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_empty_secret_is_shown_as_empty_so_that_its_absence_is_seen() -> None:
    assert {line.value for line in config.shown(config.load(None, {})) if (line.section, line.key) in SECRETS} == {""}


# ------------------------------------------------------------------------------------------------------------- origins


def test_the_listing_says_where_each_value_came_from(written: Any, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s", encoding="utf-8")
    path = written('[log]\ntopic = "t"\n[[policy]]\nfields = ["a"]\nstrategy = "hold"\n')
    environ = {"RECONCILER_LOG__GROUP": "g", "RECONCILER_WINDCHILL__PASSWORD_FILE": str(secret)}
    found = {(line.section, line.key): (line.value, line.origin) for line in config.shown(config.load(path, environ))}
    assert found["log", "topic"] == ("t", "file")
    assert found["log", "group"] == ("g", "env RECONCILER_LOG__GROUP")
    assert found["log", "brokers"] == (["localhost:9092"], "default")
    assert found["windchill", "password"] == (config.MASK, f"secret file {secret}")
    assert found["policy[1]", "strategy"] == ("hold", "file")
    assert found["policy[1]", "on_overlap"] == ("hold", "default")
    assert found["default", "fields"] == (["*"], "default")


# -------------------------------------------------------------------------------------------------------------- policy

POLICY = """
[[policy]]
fields = ["attributes.Keywords"]
strategy = "merge"
on_overlap = "newest"
on_adopt = "yield"
list = "set"
normalise = ["trim", "case"]
types = ["PART"]
sources = ["//erp/*"]
[[policy]]
fields = ["*"]
strategy = "merge"
"""


def test_policy_tables_become_rules_that_are_numbered_from_one(written: Any) -> None:
    full, rest = config.load(written(POLICY), {}).policy.rules
    how = (Strategy.MERGE, Strategy.NEWEST, Adopt.YIELD, ListMode.SET, (Normaliser.TRIM, Normaliser.CASE))
    assert full == Rule(("attributes.Keywords",), *how, ("PART",), ("//erp/*",), "policy[1]")
    assert rest == Rule(("*",), Strategy.MERGE, name="policy[2]")


def test_the_policy_can_be_given_whole_in_the_environment(written: Any) -> None:
    found = config.load(written(POLICY), {"RECONCILER_POLICY": '[{"fields": ["x"], "strategy": "ignore"}]'})
    assert found.policy.rules == (Rule(("x",), Strategy.IGNORE, name="policy[1]"),)


def test_a_policy_can_have_a_file_of_its_own(written: Any, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY, encoding="utf-8")
    rules = config.load(written(POLICY), {}).policy.rules
    found = config.load(written(f'policy_file = "{file}"\n[log]\ntopic = "t"\n'), {})
    assert (found.policy.rules, found.policy_file, found.log.topic) == (rules, file, "t")
    assert {line.origin for line in config.shown(found) if line.section == "policy[1]"} == {f"policy file {file}"}
    assert config.load(written(""), {"RECONCILER_POLICY_FILE": str(file)}).policy.rules == rules
    aside = {"RECONCILER_POLICY": '[{"fields": ["x"], "strategy": "ignore"}]'}
    assert config.load(written(f'policy_file = "{file}"'), aside).policy_file is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "policy.toml: can't be read: No such file or directory"),
        ("policy", "policy.toml: is not TOML: Expected '=' after a key"),
        ("", "policy.toml: holds no rules; write each as [[policy]]"),
        (f'{POLICY}[log]\ntopic = "t"', "policy.toml:log: has no effect here; only [[policy]] has"),
        ('[[policy]]\nfields = ["a"]', "policy.toml:policy[1]: needs strategy"),
    ],
)
def test_what_is_wrong_with_the_policys_own_file_is_said_with_its_name(
    text: str | None, expected: str, written: Any, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "policy.toml").write_text(text, encoding="utf-8")
    (found,) = faults(written(f'policy_file = "{tmp_path}/policy.toml"\n'))
    assert found.startswith(expected)


def test_the_policy_is_given_in_one_place(written: Any) -> None:
    both = "give either policy or policy_file, not both"
    assert faults(written(f'policy_file = "p.toml"\n{POLICY}')) == [f"reconciler.toml:policy_file: {both}"]
    assert faults(written("policy_file = 3")) == ["reconciler.toml:policy_file: must be the path of a file"]


WRONG_RULES = [
    ('strategy = "hold"', "[1]: needs fields"),
    ('fields = ["a"]', "[1]: needs strategy"),
    ('fields = []\nstrategy = "hold"', "[1].fields: must be a list with at least one entry, each a text that is not"),
    ('fields = [""]\nstrategy = "hold"', "[1].fields: must be a text that is not empty"),
    ('fields = "a"\nstrategy = "hold"', "[1].fields: must be a list with at least one entry"),
    ('fields = ["a"]\nstrategy = "win"', '[1].strategy: must be one of "external", "preserve", "merge", "newest"'),
    (
        'fields = ["a"]\nstrategy = "merge"\non_overlap = "fill"',
        '[1].on_overlap: must be one of "external", "hold", "newe',
    ),
    (
        'fields = ["a"]\nstrategy = "hold"\non_adopt = "keep"',
        '[1].on_adopt: must be one of "write", "yield", "hold", not',
    ),
    ('fields = ["a"]\nstrategy = "hold"\nlist = "bag"', '[1].list: must be one of "atomic", "set", not "bag"'),
    (
        'fields = ["a"]\nstrategy = "hold"\nnormalise = ["up"]',
        '[1].normalise: must be one of "trim", "case", "blank", "nu',
    ),
    ('fields = ["a"]\nstrategy = "hold"\nsource = ["x"]', "[1].source: unknown key; did you mean sources?"),
    ('fields = ["a"]\nstrategy = "hold"\nname = "x"', "[1].name: unknown key; "),
    (
        'fields = ["*"]\nstrategy = "hold"\n[[policy]]\nfields = ["a"]\nstrategy = "fill"',
        "[2]: never reached, because policy[1] covers every field; move it up",
    ),
]


@pytest.mark.parametrize(("rule", "message"), WRONG_RULES)
def test_a_wrong_rule_is_answered_with_its_number_and_what_is_allowed(written: Any, rule: str, message: str) -> None:
    (found,) = faults(written(f"[[policy]]\n{rule}\n"))
    assert found.startswith(f"reconciler.toml:policy{message}")


@pytest.mark.parametrize(("slip", "known"), [("ce_file", "ca_file"), ("ken_file", "key_file"), ("tokne", "token")])
def test_of_names_alike_the_one_with_the_fewest_slips_was_meant(written: Any, slip: str, known: str) -> None:
    path = written(f"[windchill]\n{slip} = 1\n")
    assert faults(path) == [f"reconciler.toml:windchill.{slip}: unknown key; did you mean windchill.{known}?"]


@pytest.mark.parametrize("text", ["[policy]\nfields = ['a']", "policy = 3"])
def test_a_policy_that_is_no_list_of_rules_says_how_to_write_one(written: Any, text: str) -> None:
    message = "policy: must be a list of tables with fields and strategy; write each as [[policy]]"
    assert faults(written(text)) == [f"reconciler.toml:{message}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[log]\ntopics = [{}, {name = " ", source = ["x"], sources = [""]}, "a", {name = "c", sources = ["", 1]}]',
            """
            log.topics[1]: needs name
            log.topics[1]: needs sources
            log.topics[2].name: must be a topic's name: 1 to 249 letters, digits, '.', '_' or '-', not " "
            log.topics[2].source: unknown key; did you mean sources?
            log.topics[2].sources: must be a text that is not empty, not ""
            log.topics[3]: must be a table with name and sources
            log.topics[4].sources: must be a text that is not empty, not ""
            """,
        ),
        (
            'policy = [{}, "a", {fields = [""], source = ["x"]}, {strategy = "fill", list = "e", on_adopt = "hold"}]',
            """
            policy[1]: needs fields
            policy[1]: needs strategy
            policy[2]: must be a table with fields and strategy
            policy[3].fields: must be a text that is not empty, not ""
            policy[3].source: unknown key; did you mean sources?
            policy[3]: needs strategy
            policy[4].list: must be one of "atomic", "set", not "e"
            policy[4]: needs fields
            policy[4].on_adopt: has no effect under fill, which decides again at every attempt; leave it out
            """,
        ),
        (
            'policy = [{fields = ["a"]}, {fields = ["*"], strategy = "hold"}, {fields = ["b"], strategy = "fill"}]',
            """
            policy[1]: needs strategy
            policy[3]: never reached, because policy[2] covers every field; move it up
            """,
        ),
        (
            'policy = [{fields = ["*", ""], strategy = "hold"}, {fields = ["b"]}]',
            """
            policy[1].fields: must be a text that is not empty, not ""
            policy[2]: needs strategy
            policy[2]: never reached, because policy[1] covers every field; move it up
            """,
        ),
        (
            'policy = [{fields = ["*"], strategy = "hold", type = ["PART"]}, {fields = ["b"], strategy = "fill"}]',
            "policy[1].type: unknown key; did you mean types?",
        ),
    ],
)
def test_every_fault_of_a_list_of_tables_is_told_with_the_number_of_its_table(
    written: Any, text: str, told: str
) -> None:
    expected = [f"reconciler.toml:{line.strip()}" for line in told.strip().splitlines()]
    assert faults(written(text)) == expected


# ---------------------------------------------------------------------------------------------------------- properties


def slipped(known: str, at: int, letter: str) -> tuple[str, str, str, str]:
    """A key with one slip of the finger: a letter too many, too few, wrong, or two swapped."""
    before, after = known[:at], known[at + 1 :]
    return (
        before + letter + known[at:],
        before + after,
        before + letter + after,
        before + known[at : at + 2][::-1] + known[at + 2 :],
    )


@st.composite
def slips(draw: st.DrawFn) -> tuple[str, str]:
    """The section of a known key, and the key with one slip."""
    section, known = draw(st.sampled_from(KEYS))
    at = draw(st.integers(0, len(known) - 1))
    slip = draw(st.sampled_from(slipped(known, at, draw(st.sampled_from(LETTERS)))))
    assume(slip not in loading.keys(section))
    return section, slip


@given(case=slips())
@example(case=("log", "topisc"))  # one slip from `topics`, and from `topic`
def test_an_unknown_key_near_a_known_one_names_it(
    case: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    section, slip = case
    near = {
        known
        for known in loading.keys(section)
        if any(slip in slipped(known, at, letter) for at in range(len(known) + 1) for letter in LETTERS)
    }
    path = tmp_path_factory.getbasetemp() / "slip.toml"
    path.write_text(f"[{section}]\n{slip} = 1\n", encoding="utf-8")
    (found,) = faults(path)
    assert found in {f"slip.toml:{section}.{slip}: unknown key; did you mean {section}.{known}?" for known in near}
    (line,) = faults(None, **{loading.variable(section, slip): "x"})
    assert any(line.endswith(f"did you mean {loading.variable(section, known)}?") for known in near)


@given(in_file=st.one_of(st.none(), st.integers(1, 1000)), in_environment=st.one_of(st.none(), st.integers(1, 1000)))
def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    in_file: int | None, in_environment: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("config") / "reconciler.toml"
    path.write_text("" if in_file is None else f"[windchill]\nin_flight_max = {in_file}\n", encoding="utf-8")
    environ = {} if in_environment is None else {"RECONCILER_WINDCHILL__IN_FLIGHT_MAX": str(in_environment)}
    expected = next(value for value in (in_environment, in_file, 16) if value is not None)
    assert config.load(path, environ).windchill.in_flight_max == expected


@given(
    name=st.sampled_from([loading.variable(*key) for key in KEYS] + ["RECONCILER_POLICY"]), text=st.text(max_size=40)
)
def test_no_text_in_a_variable_raises_anything_but_a_config_error(name: str, text: str) -> None:
    try:
        config.load(None, {name: text})
    except ConfigError as error:
        message = str(error)
    else:
        return
    assert message.startswith(name)


@pytest.mark.parametrize("strategy", ["external", "fill", "ignore"])
@pytest.mark.parametrize("adopt", Adopt)
def test_an_adoption_that_its_own_strategy_would_undo_is_refused(strategy: str, adopt: Adopt) -> None:
    with pytest.raises(ConfigError, match="on_adopt: has no effect under " + strategy):
        config.load(
            None, {"RECONCILER_POLICY": json.dumps([{"fields": ["a"], "strategy": strategy, "on_adopt": adopt}])}
        )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("WINDCHILL__ACCOUNT", "caf\udce9", "must be one line of UTF-8"),
        ("RESYNC__INTERVAL_S", "9e17", "3650 days"),
        ("WINDCHILL__PAGE_SIZE", "1e2", "must be a whole number"),
        ("POLICY", "null", "must be a JSON list of rules"),
        ("POLICY", "status=hold", "must be a JSON list of rules"),
    ],
)
def test_what_no_key_can_hold_is_a_fault_with_its_place(name: str, text: str, said: str) -> None:
    (fault,) = faults(None, **{f"RECONCILER_{name}": text})
    assert fault.startswith(f"RECONCILER_{name}: ")
    assert said in fault
