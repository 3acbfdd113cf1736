"""The values of environment variables: text -> checked value, or `Rejected` with what it must be. Pure, except that
folders must exist."""

import ipaddress
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
DATABASE = re.compile(r"/?|/[0-9]+")
PLACEHOLDER = re.compile(r"(?<!\$)\{[a-z_]+\}")
TOKEN_LENGTH = 16  # characters of the shortest token


class Rejected(ValueError):
    """A value that does not fit; the text says what it must be."""


def check_redis_url(text: str) -> None:
    """Raise `Rejected` if this is no URL of a Redis, such as one that a character in its password cuts in two."""
    parts = _split(text)
    options = parts.query.split("&") if parts.query else []
    if "#" in text or "@" in parts.path or not all("=" in option for option in options):
        raise Rejected("a URL with %23, %2F, %3F and %40 for '#', '/', '?' and '@' in its password")
    if parts.scheme == "unix" and parts.path:
        return
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise Rejected("a URL such as redis://127.0.0.1:6379/0, rediss://host:6379/0 or unix:///path/to/socket")
    try:
        has_port = parts.port != 0
    except ValueError:
        has_port = False
    if not has_port:
        raise Rejected("a URL with a port between 1 and 65535, and %3A for each ':' in its password")
    if not DATABASE.fullmatch(parts.path):
        raise Rejected("a URL that ends with the number of a database, such as /0")


def redis_url(text: str) -> str:
    """The URL of a Redis."""
    check_redis_url(text)
    return text


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise Rejected("a URL that can be parsed") from None


def folder(text: str) -> Path:
    """The path of a folder that is there."""
    path = any_path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise Rejected(f"an existing folder (it is read as {path}: {error.strerror})") from None
    if not is_folder:
        raise Rejected(f"an existing folder (it is read as {path})")
    if not os.access(path, os.R_OK | os.X_OK):
        raise Rejected(f"a folder that this user can read (it is read as {path})")
    return path


def any_path(text: str) -> Path:
    """A path."""
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError):
        raise Rejected("a path that leads somewhere (not a circle of links, nor the home of nobody)") from None


def command(needed: str, *known: str) -> Callable[[str], tuple[str, ...]]:
    """Commands with the placeholder `needed`, and none but the `known` ones -> their words."""

    def parse(text: str) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise Rejected(f"a command line as a shell would read it ({error})") from None
        unknown = [name for name in PLACEHOLDER.findall(text) if name not in (needed, *known)]
        if unknown:
            raise Rejected(f"a command with no placeholder but {' and '.join((needed, *known))} (not {unknown[0]})")
        if not any(needed in word for word in words[1:]):
            raise Rejected(f"a program and its arguments, one of them with {needed} in it")
        return words

    return parse


def integer(low: int, high: int, unit: str = "") -> Callable[[str], int]:
    """Whole numbers in this range."""
    expected = f"an integer from {low} to {high}" + (f" ({unit})" if unit else "")

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise Rejected(expected) from None
        if not low <= number <= high:
            raise Rejected(expected)
        return number

    return parse


def optional(parse: Callable[[str], int]) -> Callable[[str], int | None]:
    """The same, and None for a variable that is not set."""
    return lambda text: parse(text) if text else None


def queue_name(text: str) -> str:
    """The name of a queue."""
    if not all(c.isascii() and (c.isalnum() or c in "_-.") for c in text):
        raise Rejected("a name of letters, digits, '_', '-' and '.'")
    return text


def host(text: str) -> str:
    """A host name, or an address without brackets."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in text or bare != text:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise Rejected("a host name or an IP address to listen on, without a port") from None
    if not text or any(c.isspace() or c in "/[]" for c in text):
        raise Rejected("a host name or an IP address to listen on")
    return text


def origins(text: str) -> tuple[str, ...]:
    """Origins of pages."""
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in origins:
        parts = _split(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise Rejected(f"origins such as http://localhost:5173, separated by commas (not {origin!r})")
    return origins


def hosts(text: str) -> tuple[str, ...]:
    """Names in `Host` headers."""
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if host != "*" and not HOST_NAME.fullmatch(host):
            raise Rejected(f"host names without ports such as localhost or [::1], separated by commas (not {host!r})")
    return hosts


def token(text: str) -> str:
    """A token that cannot be guessed; empty for none."""
    if text and not (len(text) >= TOKEN_LENGTH and text.isascii() and text.isprintable() and " " not in text):
        raise Rejected(f"at least {TOKEN_LENGTH} printable ASCII characters without blanks")
    return text


def names(text: str) -> tuple[str, ...]:
    """Names, with `*` for anything."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def log_level(text: str) -> str:
    """A level of Python's logging."""
    if text.upper() not in LOG_LEVELS:
        raise Rejected("one of " + ", ".join(LOG_LEVELS))
    return text.upper()


def metrics(text: str) -> str:
    """Who may read the metrics."""
    if text.lower() not in ("token", "open", "off"):
        raise Rejected("token, open or off")
    return text.lower()


def modules(text: str) -> tuple[str, ...]:
    """Full names of Python modules."""
    found = names(text)
    for name in found:
        if not all(part.isidentifier() for part in name.split(".")):
            raise Rejected(f"full names of modules, separated by commas (not {name!r})")
    return found


def switch(text: str) -> bool:
    """`on` or `off`."""
    if text.lower() not in ("on", "off"):
        raise Rejected("on or off")
    return text.lower() == "on"
