"""
Generates `config.schema.json` from the configuration's groups, `asyncapi.yaml` from their defaults, and `openapi.json`
from the admin server's endpoints. Run `python schemas/generate.py` after changing one of them; a test checks it.
"""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import msgspec

from reconciler import __version__, config
from reconciler.config import groups, rules, sources
from reconciler.config.values import NO_CONTROL, is_secret
from reconciler.web import application, openapi

HERE = Path(__file__).parent
CONFIG = HERE / "config.schema.json"
ASYNCAPI = HERE / "asyncapi.yaml"
OPENAPI = HERE / "openapi.json"


# -------------------------------------------------------------------------------------------------------------- config


def config_schema() -> dict[str, Any]:
    """Return the schema of a configuration file, as parsed from TOML."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:windchill-reconciler:schema:config:v1",
        "title": "Configuration of the Windchill metadata reconciler",
        "description": "Generated from the code by schemas/generate.py. The environment variable "
        "RECONCILER_SECTION__KEY can give any key instead, so no key is required here, although some need each other.",
        "type": "object",
        "properties": {
            **{section: _section(group) for section, group in groups.GROUPS.items()},
            "policy_file": {
                "description": _texts(groups.Config)["policy_file"],
                "type": "string",
                "minLength": 1,
                **NO_CONTROL,
            },
            "policy": {
                "description": " ".join(str(rules.Row.__doc__).split()),
                "type": "array",
                "items": _table(rules.Row),
            },
            "source": {
                "description": " ".join(str(sources.Row.__doc__).split()),
                "type": "array",
                "items": _table(sources.Row),
            },
        },
        "additionalProperties": False,
        "not": {"required": ["policy", "policy_file"]},
    }


def _section(group: type[attrs.AttrsInstance]) -> dict[str, Any]:
    table = _table(group)
    secrets = [field.name for field in attrs.fields(group) if is_secret(field.type)]
    for name in secrets:
        about = f"A file that holds {name}; a line end at its end is ignored."
        table["properties"][f"{name}_file"] = {"description": about, "type": "string", "minLength": 1} | NO_CONTROL
    exclusive = {"allOf": [{"not": {"required": [name, f"{name}_file"]}} for name in secrets]} if secrets else {}
    return {"description": inspect.getdoc(group), **table, **exclusive}


def _table(of: type) -> dict[str, Any]:
    """Return the schema of a class without references, with the docstring under each key as its description."""
    (made,), named = msgspec.json.schema_components([of])
    shape = _whole(made, named)
    texts = _texts(of)
    keys = {name: {"description": texts[name], **about} for name, about in shape["properties"].items()}
    required = {"required": shape["required"]} if shape["required"] else {}
    return {"type": "object", **required, "properties": keys, "additionalProperties": False}


def _whole(node: Any, named: dict[str, Any]) -> Any:
    """Replace references by their targets."""
    if isinstance(node, list):
        return [_whole(item, named) for item in node]
    if not isinstance(node, dict):
        return node
    found = named[node["$ref"].rpartition("/")[2]] if "$ref" in node else {}
    about = {name: value for name, value in found.items() if name not in ("title", "description")}
    made = {name: _whole(value, named) for name, value in (about | node).items() if name != "$ref"}
    plain = made.get("type") == "string" and not made.keys() & {"enum", "pattern"}
    return made | (NO_CONTROL if plain else {})


def _texts(group: type) -> dict[str, str]:
    """Return the docstring under each key in the source, which Python itself does not keep."""
    (definition,) = ast.parse(inspect.getsource(group)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


# ------------------------------------------------------------------------------------------------------------ asyncapi


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document of the four topics, as the reconciler sees them."""
    log = config.Config().log
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Windchill metadata reconciler",
            "version": __version__,
            "description": "External systems append change events; the reconciler brings Windchill's documents to the "
            "state they ask for and publishes the outcomes. Topics are settings; these are their defaults.",
        },
        "defaultContentType": "application/cloudevents+json",
        "servers": {"kafka": {"host": log.brokers[0], "protocol": "kafka", "description": "[log] brokers"}},
        "channels": {
            "changes": _channel(
                log.topic, "The change log: what documents should be. Keep all of it, and never compact it.", "change"
            ),
            "decisions": _channel(
                log.decisions_topic,
                "Operators' decisions, which are accepted from here only. Let no one else write to it.",
                "change",
            ),
            "outcomes": _channel(
                log.outcomes_topic, "What the reconciler wrote, yielded, kept, held and parked.", "outcome"
            ),
            "deadLetters": _channel(log.dead_letter_topic, "Records that can't be used, unchanged.", "deadLetter"),
        },
        "operations": {
            "receiveChanges": _operation("receive", "changes", "Fold change events into the desired state."),
            "receiveDecisions": _operation("receive", "decisions", "Fold operators' decisions."),
            "sendDecisions": _operation("send", "decisions", "Append what operators resolve, release or emit."),
            "sendChanges": _operation("send", "changes", "Append what systems send over HTTP."),
            "sendOutcomes": _operation("send", "outcomes", "Publish outcomes."),
            "sendDeadLetters": _operation("send", "deadLetters", "Keep records that can't be used."),
        },
        "components": {
            "messages": {
                "change": _message("Change event", "event.schema.json"),
                "outcome": _message("Outcome", "outcome.schema.json"),
                "deadLetter": _dead_letter(),
            }
        },
    }


def _channel(topic: str, description: str, message: str) -> dict[str, Any]:
    return {
        "address": topic,
        "description": description,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
        "bindings": {
            "kafka": {
                "topic": topic,
                "topicConfiguration": {"cleanup.policy": ["delete"], "retention.ms": -1},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(title: str, schema: str) -> dict[str, Any]:
    return {
        "title": title,
        "contentType": "application/cloudevents+json",
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"./{schema}"},
        },
        "bindings": _keyed("The document: the event's subject."),
    }


def _dead_letter() -> dict[str, Any]:
    names = {
        "topic": "The topic that it came from.",
        "partition": "Its partition there.",
        "offset": "Its offset there.",
        "stage": "The step that failed.",
        "message": "The reason, and what its producer can do.",
    }
    headers = {f"__reconciler.errors.{name}": {"type": "string", "description": text} for name, text in names.items()}
    return {
        "title": "Dead letter",
        "description": "The original value, key and headers, byte for byte, and headers that say what was wrong.",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "required": list(headers), "properties": headers},
        "payload": {"description": "Any bytes."},
        "bindings": _keyed("The original key."),
    }


def _keyed(description: str) -> dict[str, Any]:
    return {"kafka": {"key": {"type": "string", "description": description}, "bindingVersion": "0.5.0"}}


# ------------------------------------------------------------------------------------------------------------- writing


def as_json(schema: dict[str, Any]) -> str:
    """Return the text of a JSON file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def as_yaml(value: Any, indent: int = 0) -> str:
    """Return block-style YAML. Scalars are JSON, which YAML 1.2 reads, so no plain text can be misread."""
    lead = "  " * indent
    match value:
        case dict() if value:
            lines = (f"{lead}{_name(key)}:{_after(inner, indent)}" for key, inner in value.items())
        case list() if value:
            lines = (f"{lead}- {as_yaml(item, indent + 1).lstrip()}" for item in value)
        case _:
            return f"{lead}{json.dumps(value, ensure_ascii=False)}"
    return "\n".join(lines)


def _name(key: str) -> str:
    return key if key.replace(".", "").isalnum() else json.dumps(key)


def _after(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + as_yaml(value, indent + 1)
    return " " + as_yaml(value)


def files() -> dict[Path, str]:
    """Return every generated file's path and text."""
    warning = "# Generated by schemas/generate.py; change that instead.\n"
    return {
        CONFIG: as_json(config_schema()),
        ASYNCAPI: f"{warning}{as_yaml(asyncapi())}\n",
        OPENAPI: as_json(openapi.document(application.ENDPOINTS)),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
