"""Answers as they are sent, and the one cache of them: what has not changed is neither read nor encoded again."""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

ANSWER_BYTES = 12 * 1024 * 1024  # of all answers that are kept
WEIGHT = 512  # bytes that an answer takes beside its body

S = TypeVar("S")


class Answer(NamedTuple):
    """A document as UTF-8 JSON, `etag` identifies its content (as the header has it), `is_final` says that it will not
    change any more."""

    body: bytes
    etag: str
    is_final: bool = False

    @property
    def id(self) -> str:
        """The same as `etag`, without its quotes."""
        return self.etag.strip('"')


def make_answer(document: Any, *, is_final: bool = False) -> Answer:
    """The answer with this document, which is anything that msgspec can write."""
    body = msgspec.json.encode(document)
    return Answer(body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"', is_final)


class Kept(NamedTuple, Generic[S]):
    """An answer, and what was seen when it was made: it is true as long as one sees the same."""

    seen: S
    answer: Answer
    weight: int = 0  # bytes beside the answer's own


class Answers(Generic[S]):
    """The answers that were asked for lately, bounded in bytes."""

    def __init__(self, limit: int = ANSWER_BYTES) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, Kept[S]] = OrderedDict()
        self.size = 0

    def find(self, key: Hashable) -> Kept[S] | None:
        """What is kept under this key."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def keep(self, key: Hashable, kept: Kept[S]) -> Kept[S]:
        """Keep it in the place of what was kept before; drop what was not asked for for the longest time."""
        self.drop(key)
        self._kept[key] = kept
        self.size += _size(kept)
        while self.size > self._limit and len(self._kept) > 1:
            self.drop(next(iter(self._kept)))
        return kept

    def drop(self, key: Hashable) -> None:
        """Forget what is kept under this key."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size -= _size(kept)


def _size(kept: Kept[Any]) -> int:
    return WEIGHT + len(kept.answer.body) + kept.weight
