"""The spellings of a secret: value -> all texts in which it may occur, as the bytes that a search compares. Pure."""

import base64
import html
import json
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import quote

from runner.folded import folded

SHORTEST = 4  # characters of a value that is also looked for inside other texts
SHORTEST_LINE = 8  # characters of a line of a longer value that is looked for by itself
URL_SAFE = str.maketrans("+/", "-_")
SHORTEST_CODE = 6  # characters of the base64 of a value in the middle of other base64
SMALL_NUMBER = re.compile(r"\d{1,5}")
LINE_END = re.compile(r"\r\n|\r|\n|\\r\\n|\\n|\\r")  # real ones, and those of a key in one line of a `.env`
UNREADABLE = re.compile("[\ud800-\udfff]")  # bytes of an environment that are no UTF-8
ARMOR = "-----"  # with which the first and the last line of a PEM begin
COMMON = frozenset(
    """
    test tests testing tester demo sample example dummy hello world
    admin administrator root user users username guest login logout signin signup password passwd secret secrets token
    name title value text email phone address button click input select submit search link form page image label
    screenshot screenshots video videos traversal traversals task tasks runs action actions index success
    done passed failed finished error running pending stopped
    true false null none undefined default enabled disabled required optional
    http https html json localhost local chromium chrome firefox browser
    postgres postgresql mysql redis rabbitmq mongodb
    dev development staging production prod
    """.split()  # noqa: SIM905 (a list of words)
)


def is_common(value: str) -> bool:
    """Whether the value is so short or so common that it is only secret where it is the whole text: fewer than 4 bytes
    that are compared, a number of at most 5 digits, or a word of `COMMON`."""
    plain = value.strip().lower()
    is_short = len(folded(plain.encode("utf-8", "replace"))) < SHORTEST
    return is_short or plain in COMMON or SMALL_NUMBER.fullmatch(plain) is not None


def spellings(value: str) -> set[bytes]:
    """All spellings of the value that is not a common one, each at least 4 bytes long.

    The value itself in all normal forms of Unicode and in upper case; escaped for JSON, Python, HTML, URLs; each of its
    lines; its base64, also within other base64, and its hexadecimal digits.
    """
    readable = UNREADABLE.sub("\ufffd", value).strip()
    lines = LINE_END.split(readable)
    wholes = {readable, "\n".join(lines).strip()}
    pieces = [line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith(ARMOR)]
    found = {text for whole in wholes for text in _encoded(whole.encode())}
    found.update(text for part in {*wholes, *pieces} for text in _written(part))
    return {spelling for spelling in (folded(text.encode()) for text in found) if len(spelling) >= SHORTEST}


def _written(value: str) -> Iterator[str]:
    """The value as texts that are not encoded as a whole have it."""
    for text in {value} if value.isascii() else _unicode_forms(value):
        yield text
        yield json.dumps(text)[1:-1]
        yield repr(text.encode())[2:-1]
        yield html.escape(text)
        yield html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        yield html.escape(text, quote=False)
        for safe in ("", "/", "!'()*"):  # Python's, and JavaScript's encodeURIComponent
            yield quote(text, safe=safe)
        yield quote(text, safe=" ").replace(" ", "+")
        yield "u" + text.encode("utf-16-be").hex("u", 2)
    for sign in "x%":
        yield sign + value.encode().hex(sign)


def _unicode_forms(value: str) -> set[str]:
    forms = {unicodedata.normalize(form, value) for form in ("NFC", "NFD", "NFKC", "NFKD")} | {value}
    return {text for form in forms for text in (form, form.lower(), form.upper())}


def _encoded(value: bytes) -> Iterator[str]:
    """Its hexadecimal digits, and the base64 of anything in which it occurs: three, by its place there."""
    yield value.hex()
    yield value.hex(":")
    for before in range(3):
        first, last = -(-before * 8 // 6), (before + len(value)) * 8 // 6
        code = base64.b64encode(bytes(before) + value).decode()[first:last]
        if len(code) >= SHORTEST_CODE:
            yield from (code, code.translate(URL_SAFE))
