"""Environment -> one frozen `Settings`. Every variable, its type, its default and its error message stand here only."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from runner.errors import SettingsError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
DAY = 24 * 60 * 60
HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
TOKEN_LENGTH = 16  # characters of the shortest token
SECRET = ("API_TOKEN",)  # variables whose value no message repeats; REDIS_URL is one if there is a password in it


class Rejected(ValueError):
    """A value that does not fit; the text says what was expected."""


class Variable(NamedTuple):
    """How one environment variable is read. `name` is also the upper-case name of the field."""

    default: str
    parse: Callable[[str], Any]
    meaning: str


def _redis_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "unix" and parts.path:
        return text
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise Rejected("a URL such as redis://127.0.0.1:6379/0, rediss://host:6379/0 or unix:///path/to/socket")
    try:
        _ = parts.port
    except ValueError:
        raise Rejected("a port between 1 and 65535 in the URL") from None
    return text


def _folder(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise Rejected(f"an existing folder (it is read as {path})")
    return path


def _any_path(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _command(placeholder: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise Rejected(f"a command line as a shell would read it ({error})") from None
        if not any(placeholder in word for word in words[1:]):
            raise Rejected(f"a program and its arguments, one of them with {placeholder} in it")
        return words

    return parse


def _whole_number(low: int, high: int, unit: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise Rejected(f"a whole number of {unit} from {low} to {high}") from None
        if not low <= number <= high:
            raise Rejected(f"a whole number of {unit} from {low} to {high}")
        return number

    return parse


def _queue_name(text: str) -> str:
    if not text or not all(c.isascii() and (c.isalnum() or c in "_-.") for c in text):
        raise Rejected("a name of letters, digits, '_', '-' and '.'")
    return text


def _host(text: str) -> str:
    if not text or any(c.isspace() or c == "/" for c in text):
        raise Rejected("a host name or an IP address to listen on")
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise Rejected(f"origins such as http://localhost:5173, separated by commas ({origin!r} is none)")
    return origins


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        if host != "*" and not HOST_NAME.fullmatch(host):
            raise Rejected(
                f"host names without ports such as localhost or [::1], separated by commas ({host!r} is none)"
            )
    return hosts


def _token(text: str) -> str:
    if text and not (len(text) >= TOKEN_LENGTH and text.isascii() and text.isprintable() and " " not in text):
        raise Rejected(f"at least {TOKEN_LENGTH} printable ASCII characters without blanks")
    return text


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise Rejected("one of " + ", ".join(LOG_LEVELS))
    return text.upper()


DEFAULT_ORIGINS = ",".join(
    f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173, 8000)
)

VARIABLES: Mapping[str, Variable] = {
    "REDIS_URL": Variable("redis://127.0.0.1:6379/0", _redis_url, "where Redis is"),
    "REDIS_DATA": Variable(".data/redis", _any_path, "folder in which the embedded Redis keeps its data"),
    "PROJECT_ROOT": Variable(".", _folder, "the Bugninja project: the folder with bugninja.toml and tasks/"),
    "RUNNER_COMMAND": Variable("bugninja run {task_id}", _command("{task_id}"), "what the worker starts for a run"),
    "RUNNER_REPLAY_COMMAND": Variable(
        "bugninja replay --traversal {traversal_id}",
        _command("{traversal_id}"),
        "what it starts for a replay; --healing is added when asked for",
    ),
    "RUNS_PER_TASK": Variable(
        "1", _whole_number(0, 1000, "runs"), "runs of one task that may be carried out at once; 0 is any number"
    ),
    "RUN_TIMEOUT": Variable("3600", _whole_number(1, 30 * DAY, "seconds"), "seconds until a run is ended"),
    "RUN_IDLE_TIMEOUT": Variable(
        "0",
        _whole_number(0, 30 * DAY, "seconds"),
        "seconds without a new step or any output until a run is ended; 0 is never",
    ),
    "STOP_GRACE": Variable(
        "5", _whole_number(0, 30, "seconds"), "seconds that a CLI has to end by itself when it is asked to"
    ),
    "RUN_TTL": Variable(
        str(30 * DAY), _whole_number(60, 3650 * DAY, "seconds"), "seconds that a finished run stays in Redis"
    ),
    "RUNS_KEEP_DAYS": Variable("0", _whole_number(0, 3650, "days"), "`make prune` deletes older runs; 0 keeps them"),
    "RUNS_KEEP": Variable(
        "0", _whole_number(0, 1_000_000, "runs"), "`make prune` keeps so many runs of a task; 0 keeps them all"
    ),
    "QUEUE_NAME": Variable("bugninja", _queue_name, "the RQ queue"),
    "HOST": Variable("127.0.0.1", _host, "the address that the web process listens on"),
    "PORT": Variable("8000", _whole_number(1, 65535, "a port"), "the port that the web process listens on"),
    "CORS_ORIGINS": Variable(DEFAULT_ORIGINS, _origins, "origins whose pages may read the answers"),
    "ALLOWED_HOSTS": Variable(
        "localhost,127.0.0.1,[::1]", _hosts, "names by which clients may call the web process; * is any"
    ),
    "API_TOKEN": Variable("", _token, "if set, every call but /health needs it as `Authorization: Bearer`"),
    "LOG_LEVEL": Variable("INFO", _log_level, "how much is logged: " + ", ".join(LOG_LEVELS)),
}


@dataclass(frozen=True)
class Settings:
    """The settings of one process, read once. A field is the lower-case name of its variable."""

    redis_url: str
    redis_data: Path
    project_root: Path
    runner_command: tuple[str, ...]
    runner_replay_command: tuple[str, ...]
    runs_per_task: int
    run_timeout: int
    run_idle_timeout: int
    stop_grace: int
    run_ttl: int
    runs_keep_days: int
    runs_keep: int
    queue_name: str
    host: str
    port: int
    cors_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    api_token: str
    log_level: str

    @property
    def tasks_root(self) -> Path:
        """The folder that holds one folder per task."""
        return self.project_root / "tasks"


def _problem(name: str, value: str, expectation: str) -> str:
    hidden = name in SECRET or (name == "REDIS_URL" and "@" in value)
    shown = "(its value is not repeated here)" if hidden else repr(value)
    return f"{name} is {shown}; expected is {expectation}."


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings that the environment asks for; a variable that is missing or empty has its default.

    Raises `SettingsError`, which names every variable that cannot be used, not only the first.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, variable in VARIABLES.items():
        text = environ.get(name, "").strip() or variable.default
        try:
            values[name.lower()] = variable.parse(text)
        except Rejected as rejected:
            problems.append(_problem(name, text, str(rejected)))
    if problems:
        raise SettingsError(problems)
    return Settings(**values)
