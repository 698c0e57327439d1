"""Projection archives (`flows/projection.py`) among the files that a command was given."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import attrs

from reconciler.cli import files
from reconciler.config import Config
from reconciler.core.events import decode
from reconciler.core.folding import projection_file
from reconciler.core.folding.projection_file import Archived, Header, Piece
from reconciler.errors import ArchiveError, ReadingChangedError, UsageError
from reconciler.flows import reading


@attrs.frozen
class Projection:
    """An archive in a file, whose header was read."""

    path: Path
    header: Header

    def require_whole(self) -> None:
        """Read all of it; raises ArchiveError if it is not as it was written."""
        with closing(files.reading(self.path)) as lines:
            Archived(str(self.path), lines).require_whole()

    def pieces(self) -> Iterator[Piece]:
        """Yield what is in it; raises ArchiveError, at the latest at the end, if it is not as it was written."""
        with closing(files.reading(self.path)) as lines:
            yield from Archived(str(self.path), lines).pieces()

    def require_usable(self, config: Config, options: decode.Options) -> None:
        """Raise UsageError or ReadingChangedError if it is not of the configured log, read as configured."""
        header = self.header
        if header.order != config.log.order:
            raise UsageError(
                f'{self.path} was made under [log] order = "{header.order}", and "{config.log.order}" is configured:'
                " claims rank differently there, so fold archives of the events instead"
            )
        topics = {place.topic for place in header.places}
        if topics and not topics & set(options.topics.names):
            there, here = ", ".join(sorted(topics)), ", ".join(options.topics.names)
            raise UsageError(f"{self.path} is of another log ({there}) than the configured one ({here})")
        changes = reading.changes(bytes(header.reading), options, header.places)
        if changes:
            raise ReadingChangedError(
                f"{self.path}: {'; '.join(changes)}. What was read before keeps what it said: use the [[source]]s that"
                " it was made with, and then go on by `reconciler run --accept-sources`; or fold archives of the events"
            )


def opened(path: Path) -> Projection | None:
    """Return the archive in a file, None if it has something else. Raises LogError, ArchiveError."""
    with closing(files.reading(path)) as lines:
        first = next(lines, b"")
        try:
            if not projection_file.begins(first):
                return None
        except ArchiveError as error:
            raise ArchiveError(f"{path}: {error}") from error
        return Projection(path, Archived(str(path), (first,)).header)


def require_none(paths: Iterable[str]) -> None:
    """Raise UsageError if a file has no events, but what they came to."""
    for path in paths:
        if opened(Path(path)) is not None:
            raise UsageError(f"{path} is an archive of a projection; the events themselves are needed here")
