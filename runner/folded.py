"""A text, and the folded one that is searched in its place. Pure."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, compress, count

from runner.terminal import C1, CONTROLS, PANEL_SIDES, SEQUENCE, without_controls, without_sequences

# What stands between two characters of a value counts for nothing: white space, line ends, control characters, the
# sides of panels, backslashes, and characters that stand for others that could not be read. All of them as single bytes
# of UTF-8: with them a few other characters lose a byte, in the text and in the spelling alike.
IGNORED = bytes({*b" \t\n|\\", *CONTROLS, *"\u00a0\ufffd".encode(), *PANEL_SIDES.encode()})
LOWER = bytes(range(256)).lower()
PIECE_BYTES = 1024  # in which a place is looked up
HIDDEN = "\v"  # stands for each byte of an escape sequence; it is ignored
KEPT = bytes(byte not in IGNORED for byte in range(256))  # a 1 for each byte that stays in a folded text
BEFORE_PATH = re.compile(rb"[\w.\-\]\x80-\xff]")  # what makes it a part of a longer path, or of a URL with a host
AFTER_PATH = re.compile(rb"[\w\-\x80-\xff]")


def folded(content: bytes) -> bytes:
    """The text as it is compared: without what is ignored, in lower case."""
    return content.translate(LOWER, IGNORED)


class Text:
    """A text, its bytes, and the folded ones, in which escape sequences count for nothing: what is `hidden`."""

    _kept: Sequence[int] = ()  # how many folded bytes there are before each piece
    _piece: tuple[int, Sequence[int]] = (-1, ())  # the number of a piece, and the places of its folded bytes

    def __init__(self, text: str, hidden: re.Pattern[str] = SEQUENCE) -> None:
        plain = without_sequences(text, HIDDEN, hidden)
        self.raw = text.encode("utf-8", "surrogatepass")
        self._plain = self.raw if plain is text else plain.encode("utf-8", "surrogatepass")
        self.hides_something = plain is not text
        self.folded = folded(self._plain)

    def beginning(self, offset: int) -> int:
        """Where in the text the character begins whose folded byte has this offset."""
        place = self._place(offset)
        while self._is_inside(place):
            place -= 1
        return place

    def shown(self, place: int) -> int:
        """This place, or the beginning of the escape sequence that it is in."""
        while 0 < place < len(self.raw) and self._hides(place) and self._hides(place - 1):
            place -= 1
        return place

    def _hides(self, place: int) -> bool:
        return self._plain[place] != self.raw[place]

    def _place(self, offset: int) -> int:
        if not self._kept:
            pieces = range(0, len(self._plain), PIECE_BYTES)
            lengths = (len(self._plain[start : start + PIECE_BYTES].translate(None, IGNORED)) for start in pieces)
            self._kept = [0, *accumulate(lengths)]
        piece = bisect_right(self._kept, offset) - 1
        return self._places(piece)[offset - self._kept[piece]]

    def _places(self, piece: int) -> Sequence[int]:
        if self._piece[0] != piece:
            start = piece * PIECE_BYTES
            kept = self._plain[start : start + PIECE_BYTES].translate(KEPT)
            self._piece = piece, tuple(compress(count(start), kept))
        return self._piece[1]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the whole characters of the text begin and end in which these folded bytes are."""
        last = self._place(end - 1) + 1
        while self._is_inside(last):
            last += 1
        return self.beginning(start), last

    def readable(self, start: int, end: int) -> str:
        """This part without what is hidden, and without control characters."""
        return without_controls(part(self._plain, start, end))

    def _is_inside(self, place: int) -> bool:
        """Whether this byte continues the character before it."""
        return place < len(self.raw) and self.raw[place] & 0xC0 == 0x80

    def is_spread(self, start: int, end: int) -> bool:
        """Whether there is white space in this part that no line end or panel explains."""
        lines = self._plain[start:end].splitlines()
        return any(b" " in line or b"\t" in line for line in (line.strip(IGNORED) for line in lines))

    def is_part_of_path(self, start: int, end: int) -> bool:
        """Whether this part is one of a longer path, or of a URL with a host before it."""
        before, after = self._plain[max(0, start - 1) : start], self._plain[end : end + 1]
        return bool(BEFORE_PATH.match(before) or AFTER_PATH.match(after))


def both_readings(text: str) -> list[Text]:
    """The text as a terminal shows it and, if that hides more than control characters, as one shows it that knows no
    sequences: one may stand before a secret, to hide its first characters."""
    shown = Text(text)
    if not shown.hides_something:
        return [shown]
    plain = Text(text, C1)
    return [shown] if shown.folded == plain.folded else [shown, plain]


def part(raw: bytes, start: int, end: int) -> str:
    """The text between two places."""
    return raw[start:end].decode("utf-8", "surrogatepass")
