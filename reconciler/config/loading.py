"""
From file and environment to settings with their origins, and on to groups.

It collects every fault with its place, so that one run of `config check` shows all of them. No message repeats the
value of a secret.
"""

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs
import msgspec
import orjson

from reconciler.config import contradictions, notifying, rules, sources, values
from reconciler.config.contradictions import Setting
from reconciler.config.groups import GROUPS, Canary, Config, Windchill
from reconciler.config.values import FILLED, ChangeTopic, File, convert, from_text, is_secret
from reconciler.core.events import mapping
from reconciler.errors import ConfigError
from reconciler.model.limits import SECRET_BYTES_MAX
from reconciler.model.policy import DEFAULT_RULES, EVERYTHING, NOTHING, Policy, Scope

PREFIX = "RECONCILER_"
_TABLES: Mapping[object, type[msgspec.Struct]] = {
    tuple[ChangeTopic, ...]: ChangeTopic,
    notifying.RULES: notifying.Rule,
}


@attrs.frozen
class Layer:
    """The unconverted settings of one source: the file, the environment, or the policy's own file."""

    file: str | None  # None: the environment
    sections: dict[str, dict[str, object]]
    policy: object = None  # None: not given
    policy_file: object = None  # None: not given
    source: object = None  # likewise
    kind: str = "file"

    def where(self, section: str, key: str = "") -> str:
        """Return the place of a key, with which a message begins."""
        if self.file is None:
            return variable(section, key)
        return f"{self.file}:{section}.{key}" if key else f"{self.file}:{section}"

    def origin(self, section: str, key: str = "") -> str:
        """Return the place of a key, as `config show` prints it."""
        return self.kind if self.file is not None else f"env {variable(section, key)}"


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """
    Return the configuration of a file (`None`: defaults), overridden by the environment.

    Raises ConfigError with one line for each fault.
    """
    faults: list[str] = []
    layers = [_from_environ(environ, faults), *([_from_file(path, faults)] if path else [])]
    settings = {
        (section, field.name): _setting(layers, section, field, faults)
        for section, group in GROUPS.items()
        for field in attrs.fields(group)
    }
    policy_layer, policy_file = _policy_layer(layers, faults)
    rows = rules.read(policy_layer.policy, policy_layer.where("policy"), faults) if policy_layer else DEFAULT_RULES
    source_layer = next((layer for layer in layers if layer.source is not None), None)
    mapped = sources.read(source_layer.source, source_layer.where("source"), faults) if source_layer else ()
    if not faults:
        faults += contradictions.found(settings)
        faults += contradictions.of_sources(mapped, settings)
    _raise(faults)
    settings["log", "topics"] = _with_topics_of(mapped, settings)
    groups: dict[str, Any] = {
        section: group(**{key: setting.value for (of, key), setting in settings.items() if of == section})
        for section, group in GROUPS.items()
    }
    files = {".".join(name): setting.secret_file for name, setting in settings.items() if setting.secret_file}
    given = _origins(settings, policy_layer, source_layer)
    policy = Policy(rows, _scope(groups["windchill"], groups["canary"]))
    return Config(policy=policy, policy_file=policy_file, sources=mapped, secret_files=files, origins=given, **groups)


def policy_of(path: Path) -> Policy:
    """Return the policy of a file, whatever else it configures; raises ConfigError with every fault."""
    faults: list[str] = []
    layer = Layer(str(path), {}, _rows(path, _tables(path, faults), faults))
    found = rules.read(layer.policy, layer.where("policy"), faults)
    _raise(faults)
    return Policy(found)


def _raise(faults: Iterable[str]) -> None:
    if faults:
        raise ConfigError("\n".join(" ".join(fault.splitlines()) for fault in faults))


def _scope(windchill: Windchill, canary: Canary) -> Scope:
    """Return which documents are written; the globs that cover everything are left out."""
    if windchill.write != "canary":
        return EVERYTHING if windchill.write == "all" else NOTHING
    documents, types = (() if "*" in globs else globs for globs in (canary.documents, canary.types))
    return Scope(documents, types, canary.percent)


def _with_topics_of(mapped: Iterable[mapping.Source], settings: Mapping[tuple[str, str], Setting]) -> Setting:
    """Return `log.topics` with the topics of sources, each open to its source besides those that it was open to."""
    topics, single = settings["log", "topics"], settings["log", "topic"].value
    bound = {one.name: one.sources for one in topics.value} or {single: ("*",)}
    for one in mapped if settings["log", "kind"].value == "kafka" else ():
        name = one.topic or single
        if one.source not in bound.get(name, ()):
            bound[name] = (*bound.get(name, ()), one.source)
    if not topics.value and len(bound) == 1:
        return topics
    return attrs.evolve(topics, value=tuple(ChangeTopic(name=name, sources=of) for name, of in bound.items()))


def _origins(settings: Mapping[tuple[str, str], Setting], policy: Layer | None, source: Layer | None) -> dict[str, str]:
    given = {".".join(name): setting.origin for name, setting in settings.items() if setting.origin != "default"}
    for section, layer in (("policy", policy), ("source", source)):
        rows = getattr(layer, section, None)
        for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
            assert layer is not None
            given |= {f"{section}[{number}].{key}": layer.origin(section) for key in row}
    return given


def variable(section: str, key: str = "") -> str:
    """Return the environment variable of a key."""
    return f"{PREFIX}{section}__{key}".upper() if key else f"{PREFIX}{section}".upper()


def keys(section: str) -> list[str]:
    """Return every key that a section knows, with the `…_file` of its secrets."""
    fields = attrs.fields(GROUPS[section])
    return [name for field in fields for name in _spellings(field)]


# ------------------------------------------------------------------------------------------------------------- layers


def _tables(path: Path, faults: list[str]) -> dict[str, Any]:
    """Return what a file says, nothing after a fault."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path}: can't be read: {error.strerror or error}")
    except (ValueError, RecursionError) as error:
        faults.append(f"{path}: is not TOML: {error}")
    return {}


def _policy_layer(layers: Iterable[Layer], faults: list[str]) -> tuple[Layer | None, Path | None]:
    """Return the first layer with a policy, and the policy's own file if it has one."""
    for layer in layers:
        if layer.policy_file is not None:
            where = layer.where("policy_file")
            if layer.policy is not None:
                faults.append(f"{where}: give either policy or policy_file, not both")
                return None, None
            try:
                path = Path(convert(layer.policy_file, Annotated[File, FILLED]))
                _check_kind(path)
            except ValueError as error:
                faults.append(f"{where}: {error}")
                return None, None
            tables, kind = _tables(path, faults), f"policy file {path}"
            faults += [f"{path}:{name}: has no effect here; only [[policy]] has" for name in tables if name != "policy"]
            return Layer(str(path), {}, _rows(path, tables, faults), kind=kind), path
        if layer.policy is not None:
            return layer, None
    return None, None


def _rows(path: Path, tables: Mapping[str, object], faults: list[str]) -> object:
    if not faults and "policy" not in tables:
        faults.append(f"{path}: holds no rules; write each as [[policy]]")
    return tables.get("policy", [])


def _from_file(path: Path, faults: list[str]) -> Layer:
    tables = _tables(path, faults)
    layer = Layer(
        str(path), {}, tables.pop("policy", None), tables.pop("policy_file", None), tables.pop("source", None)
    )
    for section, table in tables.items():
        if section not in GROUPS:
            faults.append(f"{path}:{section}: unknown {_unknown_at_top(section, table)}")
        elif not isinstance(table, dict):
            faults.append(f"{path}:{section}: must be a section; write [{section}]")
        else:
            layer.sections[section] = {key: table[key] for key in table if key in keys(section)}
            strangers = (key for key in table if key not in keys(section))
            faults += [f"{layer.where(section, key)}: unknown key; {_nearest_key(section, key)}" for key in strangers]
    return layer


def _from_environ(environ: Mapping[str, str], faults: list[str]) -> Layer:
    known = {variable(section, key): (section, key) for section in GROUPS for key in keys(section)}
    single = {name.replace("__", "_"): name for name in known}
    sections: dict[str, dict[str, object]] = {}
    for name in sorted(environ):
        if name in known:
            section, key = known[name]
            sections.setdefault(section, {})[key] = environ[name]
        elif name in single:
            faults.append(f"{name}: unknown variable; did you mean {single[name]}?")
        # Kubernetes sets RECONCILER_SERVICE_HOST and the like for a service of that name; none has two underscores.
        elif name.startswith(PREFIX) and "__" in name:
            faults.append(f"{name}: unknown variable; {_nearest_variable(name, known)}")
    given = _list(environ, "policy", faults), environ.get(variable("policy_file")), _list(environ, "source", faults)
    return Layer(None, sections, *given)


def _list(environ: Mapping[str, str], section: str, faults: list[str]) -> object:
    name = variable(section)
    if name not in environ:
        return None
    try:
        rows = orjson.loads(environ[name])
    except ValueError:
        rows = None
    if rows is None:
        faults.append(f"{name}: must be a JSON list of {'rules' if section == 'policy' else 'sources'}")
        return []
    return rows


def _unknown_at_top(name: str, given: object) -> str:
    if isinstance(given, dict | list):
        return f"section; {values.among(name, [*GROUPS, 'policy', 'source'])}"
    return f"key outside any section; {_nearest_key('', name)}"


def _nearest_key(section: str, key: str) -> str:
    """Advise the nearest key: a typing error within the section first, then a key of another section."""
    if section and (found := values.closest(key, keys(section))):
        return f"did you mean {section}.{found}?"
    everywhere = {name: of for of in GROUPS for name in keys(of)}
    if found := values.closest(key, everywhere):
        return f"did you mean {everywhere[found]}.{found}?"
    return f"known are {', '.join(keys(section))}" if section else f"known sections are {', '.join(GROUPS)}"


def _nearest_variable(name: str, known: Iterable[str]) -> str:
    section, _, key = name.removeprefix(PREFIX).lower().partition("__")
    if section in GROUPS and (found := values.closest(key, keys(section))):
        return f"did you mean {variable(section, found)}?"
    found = values.closest(name.removeprefix(PREFIX), [one.removeprefix(PREFIX).lower() for one in known])
    return f"did you mean {PREFIX}{found.upper()}?" if found else f"known sections are {', '.join(GROUPS).upper()}"


# ------------------------------------------------------------------------------------------------------------ settings


def _spellings(field: "attrs.Attribute[Any]") -> list[str]:
    return [field.name, f"{field.name}_file"] if is_secret(field.type) else [field.name]


def _setting(layers: list[Layer], section: str, field: "attrs.Attribute[Any]", faults: list[str]) -> Setting:
    """Take a key from the first layer that has it. After a fault use the default, so that others are found."""
    default = Setting(field.default, "default", f"{section}.{field.name}")
    for layer in layers:
        given = [name for name in _spellings(field) if name in layer.sections.get(section, {})]
        if len(given) > 1:
            faults.append(f"{layer.where(section, given[0])}: give either {given[0]} or {given[1]}, not both")
            return default
        if given:
            try:
                return _converted(layer, section, given[0], field, faults)
            except ValueError as error:
                faults.append(f"{layer.where(section, given[0])}: {error}")
                return default
    return default


def _converted(layer: Layer, section: str, spelling: str, field: "attrs.Attribute[Any]", faults: list[str]) -> Setting:
    given, where = layer.sections[section][spelling], layer.where(section, spelling)
    if spelling != field.name:
        path = Path(convert(given, Annotated[File, FILLED]))
        return Setting(convert(_secret(path), field.type), f"secret file {given}", where, path)
    as_given = layer.file is not None  # the environment has only texts
    if (kind := _TABLES.get(field.type)) is not None:
        said = given if as_given else values.listed(str(given))
        rows = values.tables(said, kind, f"{section}.{spelling}", where, faults)
        made = () if faults else tuple(kind(**row) for row in rows)
        return Setting(made, layer.origin(section, spelling), where)
    value = convert(given, field.type) if as_given else from_text(str(given), field.type)
    if spelling.endswith("_file") and value:
        _check_kind(Path(value))
    return Setting(value, layer.origin(section, spelling), where)


def _check_kind(path: Path) -> None:
    """Refuse a pipe, which could block a reader, or a folder. A link to a file is allowed: Kubernetes makes them."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return  # its reader says why it can't be read
    if not regular:
        raise ValueError(f"{path} is not a regular file; write the content to a file, and give the path of that")


def _secret(path: Path) -> str:
    """Return the secret in a file, without the line end that editors and `echo` add."""
    _check_kind(path)
    try:
        with path.open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        # If none of its folders exists, the value is most likely the secret itself.
        shown = path if any(map(os.path.isdir, list(path.parents)[:-1])) else "the value, which is not shown,"
        reason = f"can't be read: {error.strerror or error}; give the path of a file that holds the secret"
        raise ValueError(f"{shown} {reason}") from None
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None  # the decoder's error carries the secret's bytes
    if not secret or len(content) > SECRET_BYTES_MAX:
        raise ValueError(f"{path} {'is empty' if not secret else 'is too large to hold a secret'}")
    return secret
