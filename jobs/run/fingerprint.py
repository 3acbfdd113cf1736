"""What makes two failures the same: their words, without what differs from run to run. Pure."""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from jobs.run.state import Reason

LONGEST = 500  # characters of a text that count
TLD = "com|org|net|eu|hu|de|uk|ai|io|dev|app|example|internal|local|test"
REPLACED = re.compile(
    rf"""
    (?P<text>
        \w{{1,9}}://[^\s'"<>`]*                                             # a URL
        | (?<![\w.-])(?:localhost|\d+\.\d+\.\d+\.\d+|[\w.-]*\w\.(?:{TLD}))  # a host, with a port and a path
          (?![\w-]|\.\w)(?::\d+)?(?:/[^\s'"<>`]*)?
        | "[^"]*" | `[^`]*` | “[^”]*” | „[^“”]*[“”] | «[^»]*» | (?<!\w)'.*?'(?!\w)   # not the apostrophe of a word
    )
    | \d{{4}}-\d\d-\d\d(?:[T ][\d:.,]+)?(?:Z|[+-]\d\d:?\d\d)?               # a time stamp
    | (?<![0-9a-z])                                                         # an ID: a UUID, hexadecimal, a CUID
      (?:[0-9a-f]{{8}}-[0-9a-f-]{{27}} | 0x[0-9a-f]+ | [0-9a-f]{{8,}} | [a-z][a-z0-9]{{23,24}})(?![0-9a-z])
    | [-+]?\d[\d.,:]*(?<=\d)                                                # a number
    """,
    re.IGNORECASE | re.VERBOSE,
)
ORIGIN_OR_QUERY = re.compile(r"^\w{1,9}://[^/?#]*|[?#].*", re.DOTALL)


class Fingerprint(NamedTuple):
    """What failures of the same kind have in common; `id` is the hash of that and of their reason."""

    id: str
    text: str
    action: str | None
    path: str | None


class Example(Struct, frozen=True):
    """The newest run of a group, and its message as it is."""

    id: str
    task: str
    message: str | None


class FailureGroup(Struct, frozen=True):
    """Failures with the same fingerprint. Times are UTC."""

    id: Annotated[str, Meta(description="the fingerprint; it stays the same")]
    reason: Reason
    action: str | None
    message: Annotated[str, Meta(description="# stands for numbers, times and IDs; … for quotations, URLs and hosts")]
    path: Annotated[str | None, Meta(description="of the URL of the page, in the same form")]
    count: Annotated[int, Meta(ge=1, description="runs")]
    tasks: Annotated[list[str], Meta(description="their names")]
    first_seen: datetime
    last_seen: datetime
    example: Example


def failure_fingerprint(reason: Reason, action: str | None, message: str | None, url: str | None) -> Fingerprint:
    """The same for failures that differ only in what `normalized` replaces; stable over processes."""
    text = normalized(message or "")
    path = None if url is None else normalized(ORIGIN_OR_QUERY.sub("", url)) or "/"
    digest = hashlib.sha256(json.dumps([reason, action, text, path]).encode())
    return Fingerprint(digest.hexdigest()[:12], text, action, path)


def normalized(text: str) -> str:
    """The first 500 characters with # for numbers, times and IDs, and … for quotations, URLs and hosts; white space
    is a space. Never longer; what is normalized stays as it is."""
    while (shorter := REPLACED.sub(_sign, " ".join(text.split())[:LONGEST])) != text:
        text = shorter  # a number that is gone may have been what kept a quotation from being one
    return text


def _sign(match: re.Match[str]) -> str:
    return "…" if match["text"] else "#"
