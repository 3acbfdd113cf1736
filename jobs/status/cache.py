"""Rendered JSON, and the one cache of it: unchanged documents are neither read nor rendered again."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

CACHE_BYTES = 12 * 1024 * 1024  # of all entries
ENTRY_BYTES = 512  # that an entry takes beside its body

F = TypeVar("F")


class RenderedJSON(NamedTuple):
    """A document as UTF-8 JSON."""

    body: bytes
    etag: str
    """Identifies the content, in the form of the ETag header."""
    is_final: bool = False
    """Whether it will never change."""

    @property
    def id(self) -> str:
        """The ETag without its quotes."""
        return self.etag.strip('"')


def render_json(document: Any, *, is_final: bool = False) -> RenderedJSON:
    """The document, which is anything that msgspec can write, as JSON."""
    body = msgspec.json.encode(document)
    return RenderedJSON(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"', is_final)


class CacheEntry(NamedTuple, Generic[F]):
    """Rendered JSON, valid as long as the fingerprint of its sources is the same."""

    fingerprint: F
    rendered: RenderedJSON
    extra_bytes: int = 0
    """Memory that the fingerprint takes, if it is large."""


class ResponseCache(Generic[F]):
    """The entries that were used last, bounded in bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, CacheEntry[F]] = OrderedDict()
        self.size = 0

    def find(self, key: Hashable) -> CacheEntry[F] | None:
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: Hashable, entry: CacheEntry[F]) -> CacheEntry[F]:
        """Replace the entry of this key; drop those that were not used for the longest time."""
        self.drop(key)
        self._entries[key] = entry
        self.size += _size(entry)
        while self.size > self._limit and len(self._entries) > 1:
            self.drop(next(iter(self._entries)))
        return entry

    def drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= _size(entry)


def _size(entry: CacheEntry[Any]) -> int:
    return ENTRY_BYTES + len(entry.rendered.body) + entry.extra_bytes
