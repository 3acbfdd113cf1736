"""Take secret values out of any text. Pure: the caller says which.

A value is found in all the forms in which it occurs in the files and the output of Bugninja: as it is, escaped as JSON
or by Python, URL-encoded, as base64, and wrapped over two lines of a panel. In its place is `<secret>NAME</secret>`,
which the front end shows as the name of a secret.
"""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

SHORTEST = 4  # characters; shorter values are only taken out where they are the whole text
BREAK = r"\W{0,200}\n\W{0,200}"  # rich breaks a line anywhere, inside a panel or not; naming its signs compiles slowly
WRAP = f"(?:{BREAK})?"
WHOLE_PATH = r"(?<![\w.\-\]]){}(?![\w-])"
SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD")
PANEL_SIDES = "│┃║"
IGNORED = f"{PANEL_SIDES}|"  # between two parts of a secret, like white space


class Secret(NamedTuple):
    """A value that must not leave, and the name that stands for it (or `instead`, if that is given)."""

    name: str
    value: str
    instead: str | None = None

    @property
    def stand_in(self) -> str:
        """The text that stands in its place."""
        return f"<secret>{self.name}</secret>" if self.instead is None else self.instead


class Redactor:
    """Takes a set of secrets out of texts. Make one per set: it compiles a pattern."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self.secrets = tuple(dict.fromkeys(secret for secret in secrets if secret.value))
        self._stand_ins: dict[str, str] = {}
        for secret in self.secrets:
            for form in forms(secret.value):
                self._stand_ins.setdefault(form, secret.stand_in)
        self._forms = sorted((form for form in self._stand_ins if len(form) >= SHORTEST), key=len, reverse=True)
        self._skeletons = [_skeleton(form)[0] for form in self._forms]
        paths = {form for secret in self.secrets if secret.instead for form in forms(secret.value)}
        self._pattern = _pattern(self._forms, paths) if self._forms else None

    def text(self, text: str) -> str:
        """The text without the secrets."""
        whole = self._stand_ins.get(text)
        if whole is not None:
            return whole
        return text if self._pattern is None else self._pattern.sub(self._replace, text)

    def value(self, value: Any, kept: frozenset[str] = frozenset()) -> Any:
        """The same for every text in lists, tuples and dicts, their keys included except those in `kept`, whose meaning
        must stay; all else is returned as it is."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key if key in kept else self.value(key): self.value(item, kept) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.value(item, kept) for item in value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._stand_ins.get(str(value), value)
        return value

    def split(self, text: str) -> tuple[str, str]:
        """The part of the text that is complete, without secrets, and its end that may still become one."""
        settled = len(text) - self._unfinished(text)
        clean, place = [], 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            if match.end() > settled:
                settled = min(settled, match.start())
                break
            clean += [text[place : match.start()], self._replace(match)]
            place = match.end()
        return "".join([*clean, text[place:settled]]), text[settled:]

    def _unfinished(self, text: str) -> int:
        """How many characters at the end of the text may be the beginning of a secret that goes on behind it."""
        longest_form = max(map(len, self._skeletons), default=0)
        seen, places = _skeleton(text[-4 * longest_form - 400 :])
        longest = 0
        for form in self._skeletons:
            for length in range(min(len(form) - 1, len(seen)), longest, -1):
                if seen.endswith(form[:length]):
                    longest = length
                    break
        return 0 if longest == 0 else places[len(seen)] - places[len(seen) - longest]

    def _replace(self, match: re.Match[str]) -> str:
        return self._stand_ins[self._forms[(match.lastindex or 1) - 1]]


NOTHING_SECRET = Redactor(())


def _pattern(ordered: list[str], paths: set[str]) -> re.Pattern[str]:
    """A group per form. A path is only found where it is a whole one, not behind a host name in a URL."""
    starts = "".join(sorted({re.escape(form[0]) for form in ordered}))
    groups = (f"({WHOLE_PATH.format(_wrapped(form))})" if form in paths else f"({_wrapped(form)})" for form in ordered)
    return re.compile(f"(?=[{starts}])(?:" + "|".join(groups) + ")")


def _wrapped(form: str) -> str:
    return WRAP.join(f"(?: |{BREAK})" if char == " " else re.escape(char) for char in form)


def _skeleton(text: str) -> tuple[str, list[int]]:
    """The text without line ends and panel sides, and for each of its places the place in the text."""
    kept = [(place, char) for place, char in enumerate(text) if char not in IGNORED and not char.isspace()]
    return "".join(char for _, char in kept), [place for place, _ in kept] + [len(text)]


def forms(value: str) -> Iterator[str]:
    """All spellings of the value that we know of."""
    escaped = json.dumps(value)[1:-1]
    yield value
    yield escaped
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield json.dumps(escaped)[1:-1]
    yield repr(value)[1:-1]
    for encoded in (quote(value), quote(value, safe=""), quote_plus(value)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), encoded)
    if len(value) >= SHORTEST:
        yield base64.b64encode(value.encode()).decode().rstrip("=")


def credentials(name: str, username: str, password: str) -> Iterator[Secret]:
    """The secrets in a user name and a password: both, and the pair as HTTP's basic authentication sends it."""
    pair = f"{username}:{password}"
    for value in (password, username, pair, base64.b64encode(pair.encode()).decode()):
        yield Secret(name, value)


def environment_secrets(environ: Mapping[str, str]) -> Iterator[Secret]:
    """The values of the variables whose names say that they are secret."""
    for name, value in environ.items():
        if name.upper().endswith(SECRET_NAMES) and len(value) >= SHORTEST:
            yield Secret(name, value)
