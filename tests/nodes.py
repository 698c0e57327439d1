"""Walks through documents of JSON."""

from typing import Any


def texts(node: Any, key: str) -> list[str]:
    """Every text under this key, at any depth."""
    if isinstance(node, list):
        return [found for item in node for found in texts(item, key)]
    if isinstance(node, dict):
        own = [node[key]] if isinstance(node.get(key), str) else []
        return own + [found for item in node.values() for found in texts(item, key)]
    return []
