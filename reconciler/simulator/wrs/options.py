"""The switches of the dialect `wrs`: what differs between servers, or is unknown of real ones."""

from collections.abc import Mapping
from typing import Literal

import attrs
from attrs import validators

from reconciler.simulator.validation import number, one_of, switch, table, text, texts, tuple_of

ACTIONS = (
    "CheckOut",
    "CheckIn",
    "UndoCheckOut",
    "SetState",
    "UpdateCommonProperties",
    "GetValidStateTransitions",
    "IsCheckoutAllowed",
)
"""Everything that can be bound to a document. Not every server has the last one."""
STATES = {"INWORK": "In Work", "INREVIEW": "In Review", "RELEASED": "Released", "OBSOLETE": "Obsolete"}
TRANSITIONS = {
    "INWORK": ["INREVIEW", "OBSOLETE"],
    "INREVIEW": ["INWORK", "RELEASED"],
    "RELEASED": ["INWORK", "OBSOLETE"],
    "OBSOLETE": [],
}


@attrs.frozen(kw_only=True)
class Wrs:
    """How this server plays Windchill REST Services. The first value of each choice is the default."""

    versions: tuple[str, ...] = texts("v5", "v6")
    """Versions of the domain DocMgmt that are served beside the one without a number."""
    actions: tuple[str, ...] = attrs.field(
        default=ACTIONS[:-1], converter=tuple_of, validator=validators.deep_iterable(validators.in_(ACTIONS))
    )
    """What is bound to a document. What is left out is not in $metadata either, and answers 501."""
    vr_keys: bool = switch(True)
    """Whether `Documents('VR:…')` finds the latest iteration of a branch."""
    page_size: int = number(25, 1)
    """Rows in a page when nothing is preferred."""
    page_size_max: int = number(2000, 1)
    """The most that `Prefer: odata.maxpagesize` gets."""
    lists_show: Literal["all", "common"] = one_of("all", "common")
    """Whether lists show all properties of a document, or only those that all types have in common."""
    next_link_base: str = text("")
    """What next links begin with instead of the origin that was asked, such as another server's."""
    utc_offset_minutes: int = number(120, -840, 840)
    """The server's offset: shown in instants, and what a day is in date-only filters."""
    latest_of: Literal["revision", "document"] = one_of("revision", "document")
    """Whether the last iteration of an old revision goes on calling itself `Latest`."""
    display_names: Mapping[str, str] = table({})
    """User → how CreatedBy, ModifiedBy and CheckOutStatus show them. Others are shown by the user's name."""
    secured: Mapping[str, list[str]] = table({})
    """Document (or `*`) → properties that are shown as secured nulls, and refused in writes."""
    soft_attributes: Mapping[str, str] = table({})
    """More attributes of every subtype: name → Edm type, such as `Edm.Int64` or `Collection(Edm.String)`."""

    sessions: Literal["cookie", "none"] = one_of("cookie", "none")
    """Whether each request without a session's cookie opens a session, as Tomcat does."""
    session_s: float = number(1800.0)
    """Seconds without a request after which a session ends. 0: never."""
    session_ended: Literal["new", 401, "login_page", "redirect"] = one_of("new", 401, "login_page", "redirect")
    """What a request with an ended session's cookie gets: a new session, or no answer but one of these."""
    nonce_of: Literal["user", "session"] = one_of("user", "session")
    """What a nonce belongs to: a user, or one of the user's sessions."""
    nonce_required: bool = switch(True)
    """Whether POST, PATCH and DELETE need `CSRF_NONCE`."""
    nonce_for_bearer: bool = switch(True)
    """Whether they need it also when a bearer token says who is asking."""
    nonce_uses: int = number(0, 0)
    """Requests for which a nonce is good. 0: any number."""

    check_out_allowed: bool = switch(True)
    """What IsCheckoutAllowed answers, and CheckOut does, for a document that is not checked out."""
    checkout_reply: Literal["entity", "id"] = one_of("entity", "id")
    """What CheckOut shows of the working copy: all of it, or its ID."""
    checkin_reply: Literal["entity", "id"] = one_of("entity", "id")
    """What CheckIn shows of the new iteration."""
    checkin_id: Literal["working_copy", "fresh"] = one_of("working_copy", "fresh")
    """Which ID the new iteration gets: the working copy's, or another one."""
    patch_reply: Literal["none", "entity"] = one_of("none", "entity")
    """204, or 200 with the entity."""
    action_reply: Literal["entity", "none"] = one_of("entity", "none")
    """What SetState and UpdateCommonProperties answer: the entity as they left it, or 204."""
    patch_without_checkout: Literal["refused", "accepted"] = one_of("refused", "accepted")
    """Whether an ordinary iteration can be changed in place."""
    stale_checkout: int | Literal["latest"] = one_of(400, 404, "latest")
    """What CheckOut of an old iteration answers, or that it checks the latest one out."""
    checkout_conflict: int | Literal["same"] = one_of("same", 400, 409, 423, 500)
    """What CheckOut answers if another user was first; `same`: 200 with the ID of the request."""
    checkout_again: int | Literal["working_copy"] = one_of("working_copy", 400)
    """What CheckOut answers to the user who has the document checked out already."""
    locked_message: str = text("The object is checked out by {holder}.")
    """What the refusals among these say."""
    holder_shown: bool = switch(True)
    """Whether CheckOutStatus names who has a document checked out."""
    checkout_note_shown: bool = switch(True)
    """Whether a working copy shows the note of its check-out, as `Comments`."""
    working_copies_listed: bool = switch(False)
    """Whether lists show holders their working copies, beside the iterations these were made from."""
    administrators: tuple[str, ...] = texts()
    """Users who see everyone's working copies and can undo them, an accident that must not happen to our account."""

    states: Mapping[str, str] = table(STATES)
    """Lifecycle state → what it is called."""
    transitions: Mapping[str, list[str]] = table(TRANSITIONS)
    """Lifecycle state → those that SetState can lead to. A state that is missing here leads anywhere."""
    transitions_in: Literal["Items", "value", "States"] = one_of("Items", "value", "States")
    """Under which name GetValidStateTransitions lists states. `Items`: in a PTC.EnumTypeList, as a stock server does;
    `value`: as a plain collection; `States`: in a form that the metadata does not describe."""
    set_state_effect: Literal["set", "ignored"] = one_of("set", "ignored")
    """Whether a SetState that is answered as done has set anything."""
    set_state_when_checked_out: Literal["refused", "accepted"] = one_of("refused", "accepted")
    """Whether SetState works on a document that is checked out."""
    set_state_moves_last_modified: bool = switch(True)
    """Whether LastModified and ModifiedBy tell of a SetState."""
    common_properties_move_last_modified: bool = switch(True)
    """Whether they tell of UpdateCommonProperties."""

    etags: Literal["none", "weak", "strong"] = one_of("none", "weak", "strong")
    """Entity tags of single documents, and of each in a list where the body shows them."""
    etag_in: Literal["header", "body", "both"] = one_of("header", "body", "both")
    """Where they are shown: `ETag`, `@odata.etag`, or both."""
    if_match: Literal["ignored", "enforced", "required"] = one_of("ignored", "enforced", "required")
    """How `If-Match` is treated: a false success, 412, or also 428 if it is missing."""
