"""
Schemas by their numbers, from a folder of files and from a schema registry.

Rules
- A number never changes its meaning, so a schema is asked for once, and then known for as long as we run. The folder
  comes first: with all schemas there, a log is read again without a registry.
- That a registry does not have a number is a fact about the record, which is refused. It is asked again when another
  record names it, because a schema may be registered late, and a dead letter replayed.
- Anything else that keeps us from a schema (no answer, no credentials, a proxy's page) says nothing about the record:
  `learn` returns it, and its caller waits.

Source: the API of Confluent's Schema Registry, which Karapace and Apicurio Registry have too.
"""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from reconciler.adapters import avro, credentials, replies
from reconciler.adapters.credentials import Basic, NoAuth
from reconciler.adapters.http import HttpClient, HttpOptions, without_slash
from reconciler.adapters.replies import Reply
from reconciler.core.events.framing import Schemas
from reconciler.ports import Clock

_TIMEOUT_S = 5.0
_BYTES_MAX = 4 * 1024 * 1024
_REFERENCES_MAX = 100  # of one schema, those of its references included
_NEVER = 2**31 - 1  # a number that no registry has reached
_ACCEPT = (b"accept", b"application/vnd.schemaregistry.v1+json, application/json")


@attrs.frozen(kw_only=True)
class RegistryOptions:
    """Where schemas are."""

    url: str = ""
    """The registry's address; empty: none."""
    username: str = ""
    """Empty: no credentials are sent."""
    password: credentials.Secret = attrs.field(default="", repr=False)
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    folder: Path | None = None
    """A folder with a file `NUMBER.avsc` for each schema."""


class _Away(Exception):
    """A schema can't be had now. Never leaves this module."""


class _Absent(Exception):
    """There is no such schema. Never leaves this module."""


class Registry:
    """Fills `Schemas`. Use it inside a running event loop."""

    def __init__(self, options: RegistryOptions, schemas: Schemas, clock: Clock) -> None:
        self._options = options
        self._schemas = schemas
        self._clock = clock
        self._absent: set[int] = set()  # of the unusable ones: to be asked for again

    def lacks(self, number: int) -> bool:
        """Whether a schema has to be asked for."""
        return number not in self._schemas.readers and (number not in self._schemas.unusable or number in self._absent)

    def knows(self, number: int) -> bool:
        """Whether it is known how a schema reads its records, or why it can't."""
        return number in self._schemas.readers or number in self._schemas.unusable

    async def learn(self, numbers: Collection[int]) -> str | None:
        """Ask for these schemas; return why some can't be had now, None if all are known or known to be unusable."""
        wanted = [number for number in numbers if self.lacks(number)]
        if not wanted:
            return None
        for number in wanted:
            self._schemas.unusable.pop(number, None)
        client = self._client()
        try:
            for number in wanted:
                await self._learn(client, number)
        except _Away as away:
            return str(away)
        finally:
            await client.close()
        return None

    async def fault(self) -> str | None:
        """Return why schemas can't be had, None if folder and registry answer."""
        client = self._client()
        try:
            self._check_folder()
            if self._options.url:
                await self._document(client, f"/schemas/ids/{_NEVER}", "has no such schema")
        except _Absent:
            return None  # it has answered as a registry does
        except _Away as away:
            return str(away)
        finally:
            await client.close()
        return None

    async def _learn(self, client: HttpClient, number: int) -> None:
        self._absent.discard(number)
        try:
            schema, references = await self._found(client, number)
            self._schemas.readers[number] = avro.reader(schema, references)
        except _Absent as absent:
            self._absent.add(number)
            self._schemas.unusable[number] = str(absent)
        except ValueError as error:
            self._schemas.unusable[number] = f"its schema {number} can't be used: {error}"

    async def _found(self, client: HttpClient, number: int) -> tuple[str, list[str]]:
        """Return a schema and those that it refers to. Raises _Away, _Absent, and ValueError if it is not Avro."""
        self._check_folder()
        folder = self._options.folder
        if folder is not None:
            try:
                return await asyncio.to_thread((folder / f"{number}.avsc").read_text, encoding="utf-8"), []
            except FileNotFoundError:
                if not self._options.url:
                    raise _Absent(f"there is no {folder}/{number}.avsc, where its schema would be") from None
            except OSError as error:
                raise _Away(f"{folder}/{number}.avsc can't be read: {error.strerror or error}") from error
        said = await self._document(client, f"/schemas/ids/{number}", f"has no schema {number}")
        kind = said.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise ValueError(f"it is {kind}, and the [[source]] says Avro")
        found: dict[str, str] = {}
        await self._refer(client, said, found)
        return str(said["schema"]), list(found.values())

    async def _refer(self, client: HttpClient, said: Mapping[str, Any], found: dict[str, str]) -> None:
        """Add the schemas that one refers to, each after those that it refers to itself."""
        for one in said.get("references") or ():
            subject, version = quote(str(one.get("subject")), safe=""), quote(str(one.get("version")), safe="")
            path = f"/subjects/{subject}/versions/{version}"
            if path in found:
                continue
            if len(found) >= _REFERENCES_MAX:
                raise ValueError(f"it refers to more than {_REFERENCES_MAX} others")
            referred = await self._document(client, path, f"has no {path}")
            await self._refer(client, referred, found)
            found[path] = str(referred["schema"])

    def _check_folder(self) -> None:
        folder = self._options.folder
        if folder is not None and not folder.is_dir():
            raise _Away(f"schemas.dir: there is no directory {folder}")

    def _client(self) -> HttpClient:
        """Return a client of its own for each look: schemas are asked for too rarely to keep a connection."""
        options = HttpOptions(timeout_s=_TIMEOUT_S, body_bytes_max=_BYTES_MAX, ca_file=self._options.ca_file)
        user = self._options.username
        return HttpClient(options, self._clock, Basic(user, self._options.password) if user else NoAuth())

    async def _document(self, client: HttpClient, path: str, lacks: str) -> Mapping[str, Any]:
        """Return what the registry says there. Raises _Absent if it `lacks` it, _Away for anything else."""
        url = without_slash(self._options.url)
        reply = await client.exchange("GET", f"{url}{path}", (_ACCEPT,))
        if not isinstance(reply, Reply):
            raise _Away(f"the schema registry {url} does not answer: {getattr(reply, 'message', reply)}")
        said = replies.json_object(reply) or {}
        if reply.status == 404 and "error_code" in said:
            raise _Absent(f"the schema registry {url} {lacks} ({said['error_code']})")
        if reply.status != 200 or not isinstance(said.get("schema"), str):
            hint = "; is schemas.registry_url right?" if reply.status in (200, 404) else ""
            raise _Away(f"the schema registry {url}{path} answers {reply.status}: {client.message(reply)}{hint}")
        return said
