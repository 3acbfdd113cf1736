"""Take secret values out of any text. Pure: the caller says which.

All spellings of all values are searched at once, by an automaton, in a folded copy of the text: without white space,
line ends, panel sides and escape sequences, in lower case. What is found there is mapped back to the text. So the time
grows with the length of the text alone, whatever the text and the values are. In the place of a value is
`<secret>NAME</secret>`, which the front end shows as the name of a secret.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from ahocorasick_rs import BytesAhoCorasick, Implementation

from runner.folded import Text, both_readings, part
from runner.spellings import is_common, spellings

HEAD_BYTES = 16  # of a spelling, by which it is found; the rest is compared then
BLOCK_BYTES = 64 * 1024  # that are searched at once, which bounds the memory for what is found
FAST_HEADS = 4096  # bytes of all heads up to which the faster automaton takes little memory
LONGEST_WAIT = 64 * 1024  # bytes at the end of a stream that wait for the rest of a secret, if that is no longer one
STRICT_BYTES = 8  # a spelling that is shorter may be broken over lines, but not have other white space in it


class Secret(NamedTuple):
    """A value that must not leave, and the name that stands for it (or, for a local path, what stands `instead`)."""

    name: str
    value: str
    instead: str | None = None

    @property
    def stand_in(self) -> str:
        """The text that stands in its place."""
        return f"<secret>{self.name}</secret>" if self.instead is None else self.instead


class Span(NamedTuple):
    """The bytes of a text from `start` up to `end` (not included) that are secret."""

    start: int
    end: int
    secret: Secret


def merged(spans: Iterable[Span]) -> list[Span]:
    """These spans in order, those that overlap as one, with the secret of the longest."""
    found: list[Span] = []
    longest = 0
    for span in sorted(spans, key=attrgetter("start")):
        if found and span.start < found[-1].end:
            last = found[-1]
            secret = span.secret if span.end - span.start > longest else last.secret
            found[-1] = Span(last.start, max(last.end, span.end), secret)
        else:
            found.append(span)
            longest = 0
        longest = max(longest, span.end - span.start)
    return found


class Spelling(NamedTuple):
    """A folded spelling of a secret, and whether white space belongs to it."""

    content: bytes
    secret: Secret
    is_strict: bool

    @property
    def is_certain(self) -> bool:
        """Whether it is the secret wherever it is found in the folded text."""
        return self.secret.instead is None and not self.is_strict

    def fits(self, text: Text, start: int, end: int) -> bool:
        """Whether it is the secret in this part of the text, too, if it is not certain."""
        if self.secret.instead is not None:
            return not text.is_part_of_path(start, end)
        return not text.is_spread(start, end)


class Search:
    """The automaton of a set of secrets. It knows the heads of their spellings."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        heads: dict[bytes, list[Spelling]] = {}
        for spelling in _spellings(secrets):
            heads.setdefault(spelling.content[:HEAD_BYTES], []).append(spelling)
        self._by_head = list(heads.values())
        self._contents = sorted(spelling.content for found in self._by_head for spelling in found)
        self.longest = max(map(len, self._contents))
        kind = Implementation.DFA if sum(map(len, heads)) <= FAST_HEADS else Implementation.ContiguousNFA
        self._automaton = BytesAhoCorasick(list(heads), implementation=kind)

    def sees(self, content: bytes | memoryview) -> bool:
        """Whether there is any head in the folded text."""
        return bool(self._automaton.find_matches_as_indexes(content))

    def blocks(self, content: bytes) -> Iterator[list[tuple[int, list[Spelling]]]]:
        """Where in the folded text heads stand, block by block, and the spellings that begin with them."""
        view = memoryview(content)
        for begin in range(0, len(content), BLOCK_BYTES):
            block = view[begin : begin + BLOCK_BYTES + HEAD_BYTES - 1]
            if self.sees(block):
                found = self._automaton.find_matches_as_indexes(block, overlapping=True)
                yield [(begin + start, self._by_head[number]) for number, start, _ in found]

    def spans(self, text: Text) -> Iterator[Span]:
        """The places in the text that are secret."""
        for block in self.blocks(text.folded):
            yield from merged(self._spans(text, block))

    def _spans(self, text: Text, block: list[tuple[int, list[Spelling]]]) -> Iterator[Span]:
        certain = []  # in the folded text; those of a long secret that overlaps itself are too many to look up each
        for start, beginning in block:
            for spelling in beginning:
                end = start + len(spelling.content)
                if not text.folded.startswith(spelling.content, start):
                    continue
                if spelling.is_certain:
                    certain.append(Span(start, end, spelling.secret))
                elif spelling.fits(text, *text.span(start, end)):
                    yield Span(*text.span(start, end), spelling.secret)
        yield from (Span(*text.span(start, end), secret) for start, end, secret in merged(certain))

    def is_beginning(self, content: bytes) -> bool:
        """Whether a spelling begins with this, and goes on."""
        at = bisect_left(self._contents, content + b"\0")
        return at < len(self._contents) and self._contents[at].startswith(content)


def _spellings(secrets: Iterable[Secret]) -> Iterator[Spelling]:
    for secret in secrets:
        for content in spellings(secret.value):
            is_strict = len(content) < STRICT_BYTES and not any(map(str.isspace, secret.value.strip()))
            yield Spelling(content, secret, is_strict)


class Redactor:
    """Takes a set of secrets out of texts. Make one per set: it builds an automaton."""

    def __init__(self, secrets: Iterable[Secret] = (), base: "Redactor | None" = None) -> None:
        """`base` is another one whose secrets are taken out, too; its automaton is used again."""
        self.secrets: frozenset[Secret] = base.secrets if base else frozenset()
        added = [secret for secret in dict.fromkeys(secrets) if secret.value.strip()]
        searched = [secret for secret in added if not is_common(secret.value)]
        self.secrets |= frozenset(added)
        self._searches: tuple[Search, ...] = base._searches if base else ()
        self._searches += (Search(searched),) if searched else ()
        self._whole: dict[str, Secret] = {secret.value.strip(): secret for secret in reversed(added)}
        self._whole |= base._whole if base else {}

    def with_secrets(self, secrets: Iterable[Secret]) -> "Redactor":
        """One that takes out these, too; itself if it does already."""
        added = [secret for secret in secrets if secret not in self.secrets]
        return Redactor(added, self) if added else self

    def text(self, text: str) -> str:
        """The text without the secrets."""
        whole = self._whole.get(text.strip())
        if whole is not None:
            return whole.stand_in
        readings = both_readings(text)
        if not self._see(readings):
            return text
        given, place, raw = [], 0, readings[0].raw
        for span in self.spans(readings):
            given += [part(raw, place, span.start), span.secret.stand_in]
            place = span.end
        return "".join([*given, part(raw, place, len(raw))])

    def _see(self, readings: Iterable[Text]) -> bool:
        """Whether there may be a secret in any of them."""
        for reading in readings:  # no generator: this is called for every text that is shown
            for search in self._searches:
                if search.sees(reading.folded):
                    return True
        return False

    def spans(self, readings: Iterable[Text]) -> list[Span]:
        """The places that are secret in any of these readings of a text, in order, none over another."""
        return merged(span for reading in readings for search in self._searches for span in search.spans(reading))

    @property
    def longest(self) -> int:
        """Bytes of the longest spelling as it is compared."""
        return max((search.longest for search in self._searches), default=0)

    def unfinished(self, text: Text) -> int:
        """The place in the text from which on it may be the beginning of a secret that goes on behind it."""
        content = text.folded
        tail = content[max(0, len(content) - self.longest + 1) :]
        starts = {start for search in self._searches for block in search.blocks(tail) for start, _ in block}
        for start in sorted(starts.union(range(max(0, len(tail) - HEAD_BYTES), len(tail)))):
            if any(search.is_beginning(tail[start:]) for search in self._searches):
                return text.beginning(len(content) - len(tail) + start)
        return len(text.raw)


NOTHING_SECRET = Redactor()


class RedactedStream:
    """What a program prints, without the secrets, as it can be read. An end that may be the beginning of a secret
    waits. Each part has whole escape sequences only."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._longest_wait = max(LONGEST_WAIT, 2 * redactor.longest)
        self._waiting = ""
        self._covered = 0  # bytes of it that belong to a secret whose stand-in was given already

    def feed(self, text: str) -> str:
        """What can be given by now."""
        readings = both_readings(self._waiting + text)
        settled = readings[0].shown(min(map(self._redactor.unfinished, readings)))
        size = len(readings[0].raw)
        return self._take(readings, settled if size - settled <= self._longest_wait else size)

    def close(self) -> str:
        """The rest."""
        readings = both_readings(self._waiting)
        return self._take(readings, len(readings[0].raw))

    def _take(self, readings: Sequence[Text], settled: int) -> str:
        """The text up to this place; the rest waits, without what is covered by then."""
        given, place, shown = [], self._covered, readings[0]
        for span in self._redactor.spans(readings):
            if span.start >= settled:
                break
            if span.start >= self._covered:
                given += [shown.readable(place, span.start), span.secret.stand_in]
            place = self._covered = max(self._covered, span.end)
        given.append(shown.readable(place, settled))
        self._waiting, self._covered = part(shown.raw, settled, len(shown.raw)), max(0, place - settled)
        return "".join(given)
