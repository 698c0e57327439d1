"""The options of the dialect `wrs`: where the service is, what its documents are called, and what guards a write."""

from typing import Literal

import attrs

from reconciler.adapters import http


def _without_slashes(path: str) -> str:
    return path.strip("/")


@attrs.frozen(kw_only=True)
class WrsOptions:
    """Where the documents are and how they are read and written: the keys of `[windchill]` that the dialect needs."""

    base_url: str = attrs.field(converter=http.without_slash, validator=http.plain_url)
    """The OData root, such as `https://host/Windchill/servlet/odata`."""
    service: str = attrs.field(converter=_without_slashes)
    """The domain with its version, below `base_url`. Empty: `base_url` itself is the root of a plain OData service,
    which knows no nonce."""
    entity_set: str
    """The entity set of the documents."""
    key_property: str
    """The property that holds our document key."""
    expand: tuple[str, ...]
    """Navigations to read along; shown as `Context/Name`, never written."""
    account: str
    """Our account's name as Windchill shows it: what that name has checked out is called our own account's."""
    lock: Literal["auto", "etag", "checkout"]
    """What guards a write. `auto`: check-out where the metadata has that action, else the ETag."""
    etag_proven: bool
    """Whether this server was seen to refuse a stale `If-Match`. Without that, `etag` would overwrite people."""
    page_size: int = attrs.field(validator=attrs.validators.ge(1))
    """Rows asked for in one page; the server may give fewer."""
    time_filters: Literal["date", "time"]
    """Whether filters on `LastModified` honour the time of day; `time` asks the server to."""

    nonce_s: float = attrs.field(validator=attrs.validators.ge(0))
    """How long a nonce is good on this server; it is renewed before. 0: for ever."""

    def __attrs_post_init__(self) -> None:
        if self.lock == "etag" and not self.etag_proven:
            raise ValueError('lock = "etag" needs etag_proven = true: see what `reconciler doctor --probe` says')

    @property
    def root(self) -> str:
        """The service root, without a final slash."""
        return f"{self.base_url}/{self.service}" if self.service else self.base_url

    def checks_out(self, *, possible: bool) -> bool:
        """Whether writes are guarded by check-out, on a server where that is or is not `possible`."""
        return self.lock == "checkout" or (self.lock == "auto" and possible)
