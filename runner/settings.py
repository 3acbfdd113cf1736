"""Environment -> one frozen `Settings`. Each variable is declared once: its field, default, check and meaning.

`python -m runner.settings QUEUE_NAME` prints the value that a variable has.
"""

import hashlib
import ipaddress
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints
from urllib.parse import SplitResult, urlsplit

from runner.errors import SettingsError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DAY = 24 * 60 * 60
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
DATABASE = re.compile(r"/?|/[0-9]+")
PLACEHOLDER = re.compile(r"(?<!\$)\{[a-z_]+\}")
TOKEN_LENGTH = 16  # characters of the shortest token
SECRET = ("API_TOKEN", "REDIS_URL", "RUNNER_COMMAND", "RUNNER_REPLAY_COMMAND")  # whose value no message repeats


class Variable(NamedTuple):
    """How a setting is read from the environment variable of its name in upper case."""

    default: str
    parse: Callable[[str], Any]
    meaning: str


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


def _redis_url(text: str) -> str:
    check_redis_url(text)
    return text


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise Rejected("a URL that can be parsed") from None


def _folder(text: str) -> Path:
    path = _any_path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise Rejected(f"an existing folder (it is read as {path}: {error.strerror})") from None
    if not is_folder:
        raise Rejected(f"an existing folder (it is read as {path})")
    if not os.access(path, os.R_OK | os.X_OK):
        raise Rejected(f"a folder that this user can read (it is read as {path})")
    return path


def _any_path(text: str) -> Path:
    try:
        return Path(text).expanduser().resolve()
    except (OSError, RuntimeError):
        raise Rejected("a path that leads somewhere (not a circle of links, nor the home of nobody)") from None


def _command(needed: str, *known: str) -> Callable[[str], tuple[str, ...]]:
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


def _integer(low: int, high: int, unit: str = "") -> Callable[[str], int]:
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


def _queue_name(text: str) -> str:
    if not all(c.isascii() and (c.isalnum() or c in "_-.") for c in text):
        raise Rejected("a name of letters, digits, '_', '-' and '.'")
    return text


def _host(text: str) -> str:
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in text or bare != text:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise Rejected("a host name or an IP address to listen on, without a port") from None
    if not text or any(c.isspace() or c in "/[]" for c in text):
        raise Rejected("a host name or an IP address to listen on")
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in origins:
        parts = _split(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise Rejected(f"origins such as http://localhost:5173, separated by commas (not {origin!r})")
    return origins


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if host != "*" and not HOST_NAME.fullmatch(host):
            raise Rejected(f"host names without ports such as localhost or [::1], separated by commas (not {host!r})")
    return hosts


def _token(text: str) -> str:
    if text and not (len(text) >= TOKEN_LENGTH and text.isascii() and text.isprintable() and " " not in text):
        raise Rejected(f"at least {TOKEN_LENGTH} printable ASCII characters without blanks")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise Rejected("one of " + ", ".join(LOG_LEVELS))
    return text.upper()


DEFAULT_ORIGINS = ",".join(
    f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173, 8000)
)


@dataclass(frozen=True)
class Settings:
    """The settings of one process, read once."""

    redis_url: Annotated[str, Variable("redis://127.0.0.1:6379/0", _redis_url, "where Redis is")]
    redis_data: Annotated[Path, Variable(".data/redis", _any_path, "folder in which the embedded Redis keeps its data")]
    project_root: Annotated[
        Path, Variable(".", _folder, "the Bugninja project: the folder with `bugninja.toml` and `tasks/`")
    ]
    runner_command: Annotated[
        tuple[str, ...],
        Variable(
            "bugninja run {task_id}", _command("{task_id}", "{run_id}"), "command that the worker starts for a run"
        ),
    ]
    runner_replay_command: Annotated[
        tuple[str, ...],
        Variable(
            "bugninja replay --traversal {traversal_id}",
            _command("{traversal_id}", "{task_id}", "{run_id}"),
            "command that the worker starts for a replay",
        ),
    ]
    runs_per_task: Annotated[
        int, Variable("1", _integer(0, 1000), "runs of one task that may be executed at the same time; 0 sets no limit")
    ]
    run_timeout: Annotated[int, Variable("3600", _integer(1, 30 * DAY, "seconds"), "seconds until a run is ended")]
    run_idle_timeout: Annotated[
        int,
        Variable(
            "0",
            _integer(0, 30 * DAY, "seconds"),
            "seconds without a new step or any output until a run is ended; 0 sets no limit",
        ),
    ]
    run_memory_mb: Annotated[
        int,
        Variable(
            "0",
            _integer(0, 100_000_000, "MB"),
            "MB of memory (1024 × 1024 bytes) that the processes of a run may take together; 0 sets no limit",
        ),
    ]
    stop_grace: Annotated[
        int,
        Variable(
            "5",
            _integer(0, 30, "seconds"),
            "seconds that a CLI has to end by itself when it is stopped, or over a limit",
        ),
    ]
    run_ttl: Annotated[
        int,
        Variable(
            str(30 * DAY),
            _integer(60, 3650 * DAY, "seconds"),
            "seconds that a finished run stays in Redis (its files stay on the disk)",
        ),
    ]
    runs_keep_days: Annotated[
        int,
        Variable(
            "0", _integer(0, 3650, "days"), "`make prune` deletes runs that are older than so many days; 0 keeps all"
        ),
    ]
    runs_keep: Annotated[
        int, Variable("0", _integer(0, 1_000_000), "`make prune` keeps so many runs of each task; 0 keeps all")
    ]
    queue_name: Annotated[
        str,
        Variable("", _queue_name, "the RQ queue; if empty, `bugninja-` and a short ID of the folder in `PROJECT_ROOT`"),
    ]
    host: Annotated[str, Variable("127.0.0.1", _host, "the address on which the web process listens")]
    port: Annotated[int, Variable("8000", _integer(1, 65535), "the port on which the web process listens")]
    cors_origins: Annotated[
        tuple[str, ...], Variable(DEFAULT_ORIGINS, _origins, "origins of pages that may call, comma-separated")
    ]
    allowed_hosts: Annotated[
        tuple[str, ...],
        Variable(
            "localhost,127.0.0.1,[::1]", _hosts, "accepted `Host` names without ports, comma-separated; `*` is any"
        ),
    ]
    api_token: Annotated[
        str,
        Variable(
            "", _token, "if set (at least 16 characters), calls need `Authorization: Bearer` with it, except `/health`"
        ),
    ]
    redact_names: Annotated[
        tuple[str, ...],
        Variable("", _names, "further names of variables and keys with secret values, comma-separated, as `SHOP_*`"),
    ]
    redact_not: Annotated[
        tuple[str, ...], Variable("", _names, "names whose values are not secret, comma-separated, as `KEYBOARD_*`")
    ]
    log_level: Annotated[
        str, Variable("INFO", _log_level, "`DEBUG` (with a line per request), `INFO`, `WARNING` or `ERROR`")
    ]

    @property
    def tasks_root(self) -> Path:
        """The folder that holds one folder per task."""
        return self.project_root / "tasks"

    @property
    def base_url(self) -> str:
        """Where a person on this machine reaches the web process."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


VARIABLES: Mapping[str, Variable] = {
    name.upper(): hint.__metadata__[0] for name, hint in get_type_hints(Settings, include_extras=True).items()
}
"""The environment variables by their names."""

NO_CHECKS: Mapping[str, Callable[[str], object]] = {}


def read_settings(environ: Mapping[str, str], checks: Mapping[str, Callable[[str], object]] = NO_CHECKS) -> Settings:
    """The settings of this environment; a variable that is missing or empty has its default.

    `checks` are further ones, by the names of the variables, which raise `Rejected`. Raises `SettingsError`, which
    names every variable that cannot be used, not only the first.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, variable in VARIABLES.items():
        text = environ.get(name, "").strip() or variable.default
        try:
            values[name.lower()] = variable.parse(text)
            if name in checks:
                checks[name](text)
        except Rejected as rejected:
            problems.append(_problem(name, text, str(rejected)))
    if problems:
        raise SettingsError(problems)
    values["queue_name"] = values["queue_name"] or default_queue_name(values["project_root"])
    return Settings(**values)


def default_queue_name(project_root: Path) -> str:
    """A queue of its own for each project, so that two that share a Redis do not take each other's runs."""
    return f"bugninja-{hashlib.sha256(os.fsencode(project_root)).hexdigest()[:8]}"


def _problem(name: str, value: str, expected: str) -> str:
    return f"{name} must be {expected}, got {'a value that is not repeated here' if name in SECRET else repr(value)}."


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{getattr(read_settings(os.environ), sys.argv[1].lower())}\n")
    except SettingsError as error:
        sys.exit(str(error))
