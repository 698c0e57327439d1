"""The configuration reference, from the same schema that editors read: schemas/config.schema.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parent.parent / "schemas" / "config.schema.json"
HEAD = """# Configuration

Written by `docs/check.py --write` from the code, by way of [`config.schema.json`](../schemas/config.schema.json).

One TOML file (`-c FILE`), and the environment over it: `[log] topic` is also `RECONCILER_LOG__TOPIC`. Lists are
separated by commas there, or written as JSON, and `RECONCILER_POLICY` is the whole policy as a JSON list. Instead of a
secret, `…_file` can name a file that holds it. Relative paths start from the current directory. Every key has a
default, so only what differs needs to be written. `reconciler config check` names every fault of a file, and
`reconciler config show` says what each value comes to and where it came from, with secrets masked.
"""


def reference() -> str:
    """Return the whole page."""
    sections = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]
    return "\n".join([HEAD, *(line for name, section in sections.items() for line in _section(name, section))]) + "\n"


def _section(name: str, section: dict[str, Any]) -> Iterator[str]:
    rules = section["type"] == "array"
    keys = (section["items"] if rules else section)["properties"]
    yield f"## {f'[[{name}]]' if rules else f'[{name}]'}\n"
    yield f"{section['description']}\n"
    secrets = {key for key, value in keys.items() if value.get("writeOnly")}
    for key, value in keys.items():
        if key.removesuffix("_file") in secrets and key not in secrets:
            continue  # said once, at the top
        facts = [_values(value), *(["required"] if key in section.get("items", {}).get("required", ()) else [])]
        facts += [f"default `{_shown(value['default'])}`"] if value.get("default") not in (None, "", []) else []
        facts += [f"a secret: or `{key}_file`"] if key in secrets else []
        yield f"**`{key}`** ({', '.join(facts)})<br>\n{value['description']}\n"


def _values(value: dict[str, Any]) -> str:
    if "enum" in value:
        return " or ".join(f"`{choice}`" for choice in value["enum"])
    if value["type"] == "array" and value["items"].get("type") == "object":
        rows = " and ".join(f"`{name}` ({_values(of)})" for name, of in value["items"]["properties"].items())
        return f"tables with {rows}"
    if value["type"] == "array":
        return "list of " + (_values(value["items"]) if "enum" in value["items"] else "texts")
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}
    limits = "".join(f", {words} {value[bound]}" for bound, words in bounds.items() if bound in value)
    return {"string": "text", "boolean": "true or false", "integer": "whole number"}.get(
        value["type"], "number"
    ) + limits


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
