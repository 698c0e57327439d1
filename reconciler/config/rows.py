"""Rows: tables of a list within a section; every key of theirs is needed."""

import attrs

from reconciler.config.values import key

TOPIC = r"[A-Za-z0-9._-]{1,249}"  # Kafka's own rule
TOPIC_SAYS = "a topic's name: 1 to 249 letters, digits, '.', '_' or '-'"


@attrs.frozen(kw_only=True)
class ChangeTopic:
    """One of several change topics."""

    name: str = key("", pattern=TOPIC, says=TOPIC_SAYS)
    """The topic."""
    sources: tuple[str, ...] = key((), filled=True)
    """Globs over the sources that may speak in it, case-sensitive."""
