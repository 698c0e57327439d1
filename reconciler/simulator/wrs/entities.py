"""One iteration or working copy as a user gets to see it."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.simulator import fields
from reconciler.simulator.wrs import values
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy, identity, revision_of, shown_number
from reconciler.simulator.wrs.state import WrsState
from reconciler.simulator.wrs.types import BASE, NAMESPACE, Property, type_of

_NOTHING: frozenset[str] = frozenset()
SECURED = "(Secured information)"
_CREATED = datetime(2025, 11, 3, 9, 30, tzinfo=UTC)
"""When all documents were made, as by a migration."""
_PROGRESS = {"c/i": "Checked in", "c/o": "Checked out", "wrk": "Working copy"}


class View:
    """What `user` sees of an iteration or a working copy."""

    def __init__(self, state: WrsState, found: Iteration | WorkingCopy, user: str) -> None:
        self.found = found
        self._state = state
        self._user = user
        self._switches = state.switches
        self._copy = found if isinstance(found, WorkingCopy) else None
        self._content = found.origin.version if isinstance(found, WorkingCopy) else found.version
        self.document: Mapping[str, Any] = found.document if isinstance(found, WorkingCopy) else found.version.fields
        self.shared: tuple[str, Mapping[str, Any]] = state.iterations.shared(found.key, self.document)
        """The document's key, and where its Number and Name are: all its revisions have them in common."""
        self.type = type_of(self.shared[0], self.document)
        self.secured = self._secured() if self._switches.secured else _NOTHING
        """Properties that this user may not read."""

    @property
    def token(self) -> str:
        """The token of what is shown, as the history knows it; a working copy has that of its origin."""
        return self._content.token

    def _secured(self) -> frozenset[str]:
        secured = self._switches.secured
        return frozenset((*secured.get("*", ()), *secured.get(self.found.key, ())))

    def etag(self) -> str | None:
        """The entity tag; None where this server has none."""
        if self._switches.etags == "none":
            return None
        token = self.token if self._copy is None else f"{self.token}-{self._copy.number}-{self._copy.edits}"
        return f'W/"{token}"' if self._switches.etags == "weak" else f'"{token}"'

    def entity(self, select: Collection[str] = (), expand: Collection[str] = ()) -> dict[str, Any]:
        """As JSON, without its context."""
        # The entity set implies the base type.
        shown: dict[str, Any] = {} if self.type == BASE else {"@odata.type": f"#{NAMESPACE}.{self.type}"}
        tag = self.etag()
        if tag is not None and self._switches.etag_in != "header":
            shown["@odata.etag"] = tag
        for name, found in self._state.types.properties[self.type].items():
            if select and name not in select:
                continue
            if name in self.secured:
                shown[name], shown[f"{name}@PTC.AccessException"] = None, SECURED
            else:
                shown[name] = self.value(found)
        for name in expand:
            shown[name] = self.related(name)
        return shown

    def value(self, found: Property) -> Any:
        """One property's value as JSON, secured or not."""
        worked_out = _WORKED_OUT.get(found.name)
        if worked_out is not None:
            return worked_out(self)
        return values.outgoing(found, fields.at(self.document, found.path), self._switches)

    def moment(self, found: Property) -> datetime | None:
        """An instant as it is compared: whole seconds, as it is shown."""
        if found.name == "LastModified":
            return self.modified.replace(microsecond=0)
        value = self.value(found)
        return values.parsed(value) if isinstance(value, str) else None

    def related(self, name: str) -> dict[str, Any]:
        if name == "Context":
            context = self.document.get("context", "Demo Product")
            return {"ID": "OR:wt.pdmlink.PDMLinkProduct:47000001", "Name": context}
        folder = self.folder.rpartition("/")[2]
        return {"ID": "OR:wt.folder.SubFolder:47000002", "Name": folder, "Location": self.folder}

    @property
    def latest(self) -> bool:
        """Whether nothing newer is there in its revision, for this user."""
        return self._copy is not None or self._state.iterations.latest(self.found.key) is self.found

    @property
    def calls_itself_latest(self) -> bool:
        last = self._switches.latest_of == "revision" or self.shared[0] == self.found.key
        return self.latest and last

    @property
    def progress(self) -> str:
        """Checked in, checked out, or a working copy."""
        if self._copy is not None:
            return "wrk"
        return "c/o" if self.found.key in self._state.documents.locks and self.latest else "c/i"

    @property
    def master(self) -> str:
        return f"OR:wt.doc.WTDocumentMaster:{self._state.iterations.master(self.found.key)}"

    @property
    def branch(self) -> str:
        """The key that always finds the latest iteration."""
        return f"VR:wt.doc.WTDocument:{self._state.iterations.branch(self.found.key)}"

    @property
    def label(self) -> str:
        copied = self.found.origin if isinstance(self.found, WorkingCopy) else self.found
        return f"{revision_of(copied.version.fields)}.{copied.ordinal}"

    @property
    def name(self) -> str:
        key, document = self.shared
        name = document.get("name")
        return name if isinstance(name, str) else key

    @property
    def modifier(self) -> str:
        return str(self.document.get("modifiedBy")) if self._copy is None else self._copy.holder

    @property
    def modified(self) -> datetime:
        return self._content.modified if self._copy is None else self._copy.modified

    @property
    def folder(self) -> str:
        return str(self.document.get("folder", "/Default/Engineering"))

    def note(self) -> str | None:
        """The note of the check-out, if this server shows it."""
        shown = self._copy is not None and self._switches.checkout_note_shown
        return self._copy.note if shown and self._copy is not None else None

    def held(self) -> str | None:
        """How a check-out is shown; None if there is none."""
        holder = self._state.documents.locks.get(self.found.key)
        if holder is None or not self.latest:
            return None
        if holder == self._user:
            return "Checked out by you"
        return f"Checked out by {self.called(holder)}" if self._switches.holder_shown else "Checked out"

    def instant(self, moment: datetime) -> str:
        return values.instant(moment, self._switches)

    def called(self, who: str) -> str:
        return self._switches.display_names.get(who, who)


_WORKED_OUT: dict[str, Callable[[View], Any]] = {
    "ID": lambda view: identity(view.found.number),
    "MasterID": lambda view: view.master,
    "Number": lambda view: shown_number(*view.shared),
    "Name": lambda view: view.name,
    "Revision": lambda view: revision_of(view.document),
    "Version": lambda view: view.label,
    "VersionID": lambda view: view.branch,
    "Latest": lambda view: view.calls_itself_latest,
    "Comments": lambda view: view.note(),
    "CheckoutState": lambda view: _PROGRESS[view.progress],
    "CheckOutStatus": lambda view: view.held(),
    "WorkInProgressState": lambda view: {"Value": view.progress, "Display": _PROGRESS[view.progress]},
    "CreatedBy": lambda view: view.called("administrator"),
    "ModifiedBy": lambda view: view.called(view.modifier),
    "FolderLocation": lambda view: view.folder,
    "FolderName": lambda view: view.folder.rpartition("/")[2],
    "CreatedOn": lambda view: view.instant(_CREATED),
    "LastModified": lambda view: view.instant(view.modified),
}
