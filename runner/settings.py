"""Environment -> one frozen `Settings`. Each variable is declared once: its field, default, check and meaning.

`python -m runner.settings QUEUE_NAME` prints the value that a variable has.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from runner.errors import SettingsError
from runner.values import (
    Rejected,
    any_path,
    command,
    folder,
    host,
    hosts,
    integer,
    log_level,
    metrics,
    modules,
    names,
    optional,
    origins,
    queue_name,
    redis_url,
    switch,
    token,
)

DAY = 24 * 60 * 60
SECRET = ("API_TOKEN", "REDIS_URL", "RUNNER_COMMAND", "RUNNER_REPLAY_COMMAND")  # whose value no message repeats


class Variable(NamedTuple):
    """How a setting is read from the environment variable of its name in upper case."""

    default: str
    parse: Callable[[str], Any]
    meaning: str


WARM_IMPORTS = (
    "bugninja.api",
    "bugninja_cli.utils.pipeline_executor",
    "bugninja_cli.utils.replay_metadata",
    "bugninja_cli.utils.run_history_manager",
    "bugninja_cli.utils.task_resolver",
    "openai.resources",
    "langchain_core.beta.runnables.context",
    "anyio._backends._asyncio",
    "PIL.PngImagePlugin",
    "screeninfo",
)
"""What Bugninja 0.1.6 imports late, and takes some time."""

DEFAULT_ORIGINS = ",".join(
    f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3000, 5173, 8000)
)


@dataclass(frozen=True)
class Settings:
    """The settings of one process, read once."""

    redis_url: Annotated[str, Variable("redis://127.0.0.1:6379/0", redis_url, "where Redis is")]
    redis_data: Annotated[Path, Variable(".data/redis", any_path, "folder in which the embedded Redis keeps its data")]
    history_file: Annotated[
        Path,
        Variable(
            "", any_path, "the file with an index of all runs; if empty, `.data/history-` and the project's short ID"
        ),
    ]
    project_root: Annotated[
        Path, Variable(".", folder, "the Bugninja project: the folder with `bugninja.toml` and `tasks/`")
    ]
    runner_command: Annotated[
        tuple[str, ...],
        Variable(
            "bugninja run {task_id}", command("{task_id}", "{run_id}"), "command that the worker starts for a run"
        ),
    ]
    runner_replay_command: Annotated[
        tuple[str, ...],
        Variable(
            "bugninja replay --traversal {traversal_id}",
            command("{traversal_id}", "{task_id}", "{run_id}"),
            "command that the worker starts for a replay",
        ),
    ]
    runner_warm: Annotated[
        bool,
        Variable(
            "on", switch, "`on`: start CLIs from a process that has imported them, where that is possible; or `off`"
        ),
    ]
    runner_warm_imports: Annotated[
        tuple[str, ...],
        Variable(",".join(WARM_IMPORTS), modules, "modules that this process imports, too, comma-separated"),
    ]
    runner_python: Annotated[
        str,
        Variable("", str, "the Python interpreter of the CLI, if its command does not say which it is"),
    ]
    runs_per_task: Annotated[
        int, Variable("1", integer(0, 1000), "runs of one task that may be executed at the same time; 0 sets no limit")
    ]
    run_timeout: Annotated[int, Variable("3600", integer(1, 30 * DAY, "seconds"), "seconds until a run is ended")]
    run_idle_timeout: Annotated[
        int,
        Variable(
            "0",
            integer(0, 30 * DAY, "seconds"),
            "seconds without a new step or any output until a run is ended; 0 sets no limit",
        ),
    ]
    run_memory_mb: Annotated[
        int,
        Variable(
            "0",
            integer(0, 100_000_000, "MB"),
            "MB of memory (1024 × 1024 bytes) that the processes of a run may take together; 0 sets no limit",
        ),
    ]
    stop_grace: Annotated[
        int,
        Variable(
            "5",
            integer(0, 30, "seconds"),
            "seconds that a CLI has to end by itself when it is stopped, or over a limit",
        ),
    ]
    run_ttl: Annotated[
        int,
        Variable(
            str(30 * DAY),
            integer(60, 3650 * DAY, "seconds"),
            "seconds that a finished run stays in Redis (its files stay on the disk)",
        ),
    ]
    runs_keep_days: Annotated[
        int | None,
        Variable(
            "",
            optional(integer(0, 3650, "days")),
            "`make prune` deletes the files of runs that are older than so many days; 0 keeps all",
        ),
    ]
    runs_keep: Annotated[
        int | None,
        Variable(
            "",
            optional(integer(0, 1_000_000)),
            "`make prune` keeps the files of so many runs of each task; 0 keeps all",
        ),
    ]
    records_keep_days: Annotated[
        int,
        Variable(
            "0",
            integer(0, 3650, "days"),
            "`make prune` deletes runs that are older than so many days, with their records; 0 keeps all",
        ),
    ]
    queue_name: Annotated[
        str,
        Variable("", queue_name, "the RQ queue; if empty, `bugninja-` and a short ID of the folder in `PROJECT_ROOT`"),
    ]
    host: Annotated[str, Variable("127.0.0.1", host, "the address on which the web process listens")]
    port: Annotated[int, Variable("8000", integer(1, 65535), "the port on which the web process listens")]
    cors_origins: Annotated[
        tuple[str, ...], Variable(DEFAULT_ORIGINS, origins, "origins of pages that may call, comma-separated")
    ]
    allowed_hosts: Annotated[
        tuple[str, ...],
        Variable(
            "localhost,127.0.0.1,[::1]", hosts, "accepted `Host` names without ports, comma-separated; `*` is any"
        ),
    ]
    api_token: Annotated[
        str,
        Variable(
            "",
            token,
            "if set (at least 16 characters), all calls but `/health` and `/client.pyz` need `Authorization: Bearer`; "
            "browsers sign in",
        ),
    ]
    metrics: Annotated[
        str,
        Variable("token", metrics, "`GET /metrics`: `token`: needs `API_TOKEN` like other calls; `open`: never; `off`"),
    ]
    ui: Annotated[bool, Variable("on", switch, "`on`: the pages for a browser, at `/` and below `/ui`; or `off`")]
    report_max_mb: Annotated[
        int,
        Variable("20", integer(1, 1000, "MB"), "MB (1024 × 1024 bytes) up to which a report takes in pictures"),
    ]
    redact_names: Annotated[
        tuple[str, ...],
        Variable("", names, "further names of variables and keys with secret values, comma-separated, as `SHOP_*`"),
    ]
    redact_not: Annotated[
        tuple[str, ...], Variable("", names, "names whose values are not secret, comma-separated, as `KEYBOARD_*`")
    ]
    log_level: Annotated[
        str, Variable("INFO", log_level, "`DEBUG` (with a line per request), `INFO`, `WARNING` or `ERROR`")
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
    project = _short_id(values["project_root"])
    values["queue_name"] = values["queue_name"] or f"bugninja-{project}"
    if not environ.get("HISTORY_FILE", "").strip():
        values["history_file"] = Path(".data", f"history-{project}.sqlite")
    return Settings(**values)


def _short_id(project_root: Path) -> str:
    """An ID of its own for each project: two that share a Redis do not take each other's runs."""
    return hashlib.sha256(os.fsencode(project_root)).hexdigest()[:8]


def _problem(name: str, value: str, expected: str) -> str:
    return f"{name} must be {expected}, got {'a value that is not repeated here' if name in SECRET else repr(value)}."


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{getattr(read_settings(os.environ), sys.argv[1].lower())}\n")
    except SettingsError as error:
        sys.exit(str(error))
