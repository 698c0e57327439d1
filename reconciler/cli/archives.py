"""Archives of the audit trail, as `prune` has made them, read together with what the store still has."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from reconciler.cli import files
from reconciler.core.explain.audit_file import Exported
from reconciler.core.explain.trail import Fault, Verifier
from reconciler.errors import ReconcilerError, UsageError
from reconciler.model.chain import CHECKPOINTS, Cut, Entry


def require_folder(folder: Path) -> None:
    """Raise UsageError unless it is there: a mistyped name, or a disk that is not mounted, must not become one."""
    if not folder.is_dir():
        raise UsageError(f"there is no directory {folder}; create it first")


async def before(
    stored: AsyncIterator[Entry], cuts: Sequence[Cut], folder: Path, verifier: Verifier
) -> AsyncIterator[Entry | Fault]:
    """Yield the records of each chain from its archives, in a folder, and then from the store; checkpoints first."""
    waiting = sorted(cuts, key=lambda cut: (_order(cut.chain), cut.end.number))
    async for entry in stored:
        while waiting and _order(waiting[0].chain) <= _order(entry.chain):
            for archived in _read(waiting.pop(0), folder, verifier):
                yield archived
        yield entry
    for cut in waiting:
        for archived in _read(cut, folder, verifier):
            yield archived


def holding(cuts: Sequence[Cut], number: int) -> str | None:
    """Return the name of the archive that has the record of this number; None: none has."""
    return next((cut.file for cut in cuts if cut.has(number)), None)


def _order(chain: int) -> tuple[bool, int]:
    return chain != CHECKPOINTS, chain


def _read(cut: Cut, folder: Path, verifier: Verifier) -> Iterator[Entry | Fault]:
    path = folder / cut.file
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != cut.sha256:
                yield _fault(cut, f"the archive {path} was changed: it has another SHA-256 than when it was made")
        yield from Exported(str(path), files.reading(path)).entries()
    except FileNotFoundError:
        yield _fault(cut, f"the archive {path} is missing: it has the records {cut.begin.number + 1} to this one")
    except (ReconcilerError, OSError) as error:
        yield _fault(cut, f"the archive {path} can't be read: {error}")
    else:
        return
    verifier.resume(cut.end)


def _fault(cut: Cut, text: str) -> Fault:
    return Fault(cut.end.number, None, text)
