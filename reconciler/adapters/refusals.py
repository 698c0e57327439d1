"""
Refusals: what a reply's status and text mean in every dialect, who holds a lock, which fields are to blame.

Servers agree on too few statuses, so texts have to be read. Each rule is narrow on purpose: an unrecognised refusal is
shown to a person with its text, a wrongly recognised one blames a field or a colleague who has nothing to do with it.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.model.answer import (
    Failed,
    NotAvailable,
    Refused,
    Throttled,
    Trouble,
    Unauthorised,
    Unguarded,
    VersionConflict,
)

# A 409 that says one of these is a stale write; any other 409 is not, and trying again would not help.
VERSION_CONFLICT_MARKERS = ("version mismatch", "modified by another")
_LOCKED = re.compile(r"(?<!not )\b(?:checked[ -]?out|locked)\b", re.IGNORECASE)
_HOLDER = re.compile(
    r"""\b(?:checked[ -]?out|locked)\s+(?:by|to)\s+(?:user\s+)?["']?
        (?P<who>[^"'\n;()<>]{1,80}?)
        (?=["'\n;()<>] | [.,!]?\s*$ | [.!]\s | ,?\s(?:since|on|at|in|and|until|from|with)\b)""",
    re.IGNORECASE | re.VERBOSE,
)
_KINDS = {
    "locked by a workflow": re.compile(
        r"\block(?:ed)? (?:by|in|for) (?:an? |the )?[^.;]{0,40}\bworkflow\b", re.IGNORECASE
    ),
    "administratively locked": re.compile(
        r"\badministrative(?:ly)?[ -]lock(?:ed)?\b|\block(?:ed)? by (?:an? |the )?administrator\b", re.IGNORECASE
    ),
}
_NOBODY = re.compile(r"(?:an?other|some(?:one|body)|else|an?|the|other|you)\b", re.IGNORECASE)
_HOLDER_MEMBERS = ("lockedBy", "checkedOutBy", "locked_by", "checked_out_by", "holder")
_NOUN = r"(?:attribute|property|field)s?"
_PROSE_CHARACTERS_MAX = 4096  # of what is searched for every one of our fields, of which there may be a thousand
Labels = Mapping[str, Collection[str]]  # field → what people call it
NO_LABELS: Labels = {}
_FIELD_MEMBERS = ("field", "fields", "path", "pointer", "property", "target", "name")


def trouble(reply: Reply, message: str, retry_after_s: float | None) -> Trouble | None:
    """Return what reads and writes have in common; None for any other reply."""
    status = reply.status
    match status:
        case 401:
            return Unauthorised(message)
        case 403 | 404 | 410:
            return NotAvailable(status, message, forbidden=status == 403, absent=status == 404)
        case 429 | 503:
            return Throttled(status, message, retry_after_s)
    return Failed(message, status) if status == 408 or status >= 500 else None


def of_write(
    reply: Reply, fields: Collection[str], message: str, retry_after_s: float | None, labels: Labels = NO_LABELS
) -> VersionConflict | Refused | Unguarded | Trouble | None:
    """Return what a reply means to a write of `fields` that was not carried out; None if it may have been."""
    status = reply.status
    match status:
        case 412:
            return VersionConflict(status, message)
        case 409 if is_version_conflict(replies.said(reply)):
            return VersionConflict(status, message)
        case 428:
            return Unguarded(status, message)
        case 408:  # RFC 9110 section 15.5.9: the server did not get the whole request
            return Failed(message, status)
        case 501:
            return Refused(status, message)
        case 503:  # it may come from a proxy whose back end got the request
            return Throttled(status, message, retry_after_s, perhaps_applied=True)
        case 403 if reply.whole and (named := blamed(reply, fields, labels, in_plain_words=False)):
            return Refused(status, message, named)
    if not 400 <= status < 500:
        return None
    if (found := trouble(reply, message, retry_after_s)) is not None:
        return found
    if not reply.whole:
        return Failed(message, status)  # not carried out for sure, but the reason broke off
    return Refused(status, message, blamed(reply, fields, labels), perhaps_stale=status == 409)


def is_version_conflict(said: str) -> bool:
    """Whether a 409 with this message means that someone has written since our read."""
    lowered = said.lower()
    return any(marker in lowered for marker in VERSION_CONFLICT_MARKERS)


def is_lock(said: str) -> bool:
    """Whether a 409 with this message means that someone has locked the document."""
    return _LOCKED.search(said) is not None or lock_kind(said) != ""


def lock_kind(said: str) -> str:
    """Return the kind of a lock that is no person's check-out, empty for any other."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.search(said)), "")


def holder(reply: Reply) -> str | None:
    """Return who has locked the document, None if the reply does not say so plainly."""
    body = replies.json_object(reply) or {}
    for name in _HOLDER_MEMBERS:
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    found = _HOLDER.search(replies.said(reply))
    who = found["who"].strip() if found else ""
    return who if who and not _NOBODY.match(who) else None


def blamed(
    reply: Reply, fields: Collection[str], labels: Labels = NO_LABELS, *, in_plain_words: bool = True
) -> tuple[str, ...]:
    """
    Return those of our fields that a refusal names, in our order.

    Only the plainest way of naming counts: members such as `field` and `errors[].field`; else OData's `target`, if that
    is one of ours; else whole dotted names in the message; else quoted names; else labels; else names after a word such
    as "attribute"; else plain words. (`Value 'owner' is not allowed for attributes.Role` blames Role.) Plain words and
    labels of one word don't count with statuses that are mostly about the whole document: "only its owner may change
    it" is not about `owner`.
    """
    body = replies.json_object(reply) or {}
    if structured := set(_structured(body)):
        return _among(fields, structured)
    if targets := _among(fields, set(_targets(body))):
        return targets
    said = replies.said(reply)[:_PROSE_CHARACTERS_MAX]
    for is_named in (_dotted_mention, _quoted_mention):
        if found := tuple(field for field in fields if is_named(field, said)):
            return found
    if found := _labelled(fields, labels, said, in_plain_words=in_plain_words):
        return found
    for is_named in (_noun_mention, *([_plain_mention] if in_plain_words else [])):
        if found := tuple(field for field in fields if is_named(field, said)):
            return found
    return ()


def _labelled(fields: Collection[str], labels: Labels, said: str, *, in_plain_words: bool) -> tuple[str, ...]:
    """Return the fields named by a label, in any case; `Weight [kg]` does not name `Weight`."""
    found: set[str] = set()
    called = [(label, field) for field in fields for label in labels.get(field, ())]
    for label, name in sorted(called, key=_longest):
        words = r"\s+".join(map(re.escape, label.split()))
        alone = rf"(?<!\w){words}(?!\w)"
        before = "" if in_plain_words or " " in label.strip() else rf"(?:\b{_NOUN}\s+[\"'`]?|[\"'`])"
        said, count = re.subn(before + alone, "\0", said, flags=re.IGNORECASE) if words else (said, 0)
        found |= {name} if count else set()
    return tuple(field for field in fields if field in found)


def _longest(labelled: tuple[str, str]) -> int:
    return -len(labelled[0])


def _among(fields: Collection[str], names: Collection[str]) -> tuple[str, ...]:
    exact = tuple(field for field in fields if field in names)
    return exact or tuple(field for field in fields if _last(field) in names)


def _targets(body: Mapping[str, object]) -> Iterator[str]:
    """Return the targets of an OData error (OData JSON Format 4.01 section 21.1): often, but not always, a property."""
    error = body.get("error")
    details = error.get("details") if isinstance(error, dict) else None
    for one in (error, *(details if isinstance(details, list) else ())):
        if isinstance(one, dict):
            yield from (name.rpartition("/")[2] for name in _names(one.get("target")))


def _structured(body: Mapping[str, object]) -> Iterator[str]:
    for name in _FIELD_MEMBERS[:2]:
        yield from _names(body.get(name))
    errors = body.get("errors")
    if isinstance(errors, dict):  # {"errors": {"owner": ["no such user"]}}
        yield from map(_as_path, errors)
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict):
            for name in _FIELD_MEMBERS:
                yield from _names(error.get(name))


def _names(value: object) -> Iterator[str]:
    match value:
        case str():
            yield _as_path(value)
        case list() | dict():  # a dict: {"fields": {"owner": "no such user"}}
            yield from (_as_path(name) for name in value if isinstance(name, str))


def _as_path(name: str) -> str:
    """Turn a JSON pointer (RFC 6901) into a dotted path; leave anything else."""
    if not name.startswith("/"):
        return name
    return ".".join(part.replace("~1", "/").replace("~0", "~") for part in name[1:].split("/"))


def _last(field: str) -> str:
    return field.rpartition(".")[2] or field


def _dotted_mention(field: str, said: str) -> bool:
    return "." in field and _stands_alone(field, said)


def _quoted_mention(field: str, said: str) -> bool:
    return any(f"{quote}{_last(field)}{quote}" in said for quote in "\"'`")


def _noun_mention(field: str, said: str) -> bool:
    name = _last(field)
    return name in said and re.search(rf"\b{_NOUN}\s+{re.escape(name)}(?!\w|\.\w)", said, re.IGNORECASE) is not None


def _plain_mention(field: str, said: str) -> bool:
    return _stands_alone(_last(field), said)


def _stands_alone(name: str, said: str) -> bool:
    return name in said and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)", said) is not None
