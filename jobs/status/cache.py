"""Rendered JSON, and the cache of it: unchanged documents are neither read nor rendered again."""

import hashlib
from collections.abc import Hashable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from cachetools import LRUCache

CACHE_BYTES = 12 * 1024 * 1024  # of all entries
ENTRY_BYTES = 512  # that an entry takes beside its body


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


class CacheEntry(NamedTuple):
    """Rendered JSON, valid as long as the fingerprint of its sources is the same."""

    fingerprint: Any
    rendered: RenderedJSON
    extra_bytes: int = 0
    """Memory that the fingerprint takes, if it is large."""


class ResponseCache(LRUCache[Hashable, CacheEntry]):
    """The entries that were used last, bounded in bytes. To be used on the event loop only."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        super().__init__(limit, lambda entry: ENTRY_BYTES + len(entry.rendered.body) + entry.extra_bytes)

    def put(self, key: Hashable, entry: CacheEntry) -> CacheEntry:
        """Keep the entry, unless it is larger than the whole cache."""
        self.pop(key, None)
        with suppress(ValueError):
            self[key] = entry
        return entry
