"""
Speaking: whether a source may say what it says, where it says it (DESIGN section 5, "Who may say what").

The topic tells who can have written a record, and the policy whose word counts for a field. A release of a whole
document is a word about every field, so that any rule which names its sources has a say in it.
"""

from collections.abc import Iterable

from reconciler.model.policy import Policy
from reconciler.model.topics import Topics


def refusal(source: str, topic: str, topics: Topics, policy: Policy, *, releases: bool) -> str | None:
    """Return why a source may not speak in a topic, or release a whole document; `None` if it may."""
    reason = topics.refusal(topic, source)
    if reason is not None or not releases or (rule := policy.keeps_out(source)) is None:
        return reason
    return (
        f"source {source!r} may not release a whole document: {rule.name} ({', '.join(rule.fields)}) allows"
        f" {', '.join(rule.sources)}; release fields by name, or let an operator release the document"
    )


def forbidden(source: str, fields: Iterable[str], policy: Policy) -> str | None:
    """Return why a source may not speak about one of these fields; `None` if it may about all."""
    for field in fields:
        rule = policy.refuses(field, source)
        if rule is not None:
            return f"source {source!r} may not set `{field}`: {rule.name} allows {', '.join(rule.sources)}"
    return None
