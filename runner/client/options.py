"""What the commands understand: their options, and what these mean."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from runner.client.batches import Api
from runner.client.connection import PATIENCE, Connection, Failed
from runner.client.lines import SUMMARY_SECONDS, clean
from runner.client.session import STALL

PROGRAM = "bugninja-runner"
DEFAULT_URL = "http://127.0.0.1:8000"
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
F = TypeVar("F", bound=Callable[..., Any])


def seconds(value: str) -> float:
    """A time like `90s`, `60m` or `2h`, in seconds. Raises `click.BadParameter`."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smh]?)", value, re.ASCII)
    if not found or not float(found[1]):
        raise click.BadParameter(f"must be a time above 0, such as 90s, 60m or 2h, got {value!r}.")
    return float(found[1]) * UNITS[found[2]]


def parse_tags(values: Sequence[str]) -> list[list[str]]:
    """The tags of `--tag A,B --tag C`: (A and B) or C. Raises `click.BadParameter`."""
    groups = [[tag.strip() for tag in value.split(",")] for value in values]
    for group, value in zip(groups, values, strict=True):
        if not all(group):
            raise click.BadParameter(f"must be tags with commas in between, got {value!r}.", param_hint="--tag")
    return groups


def parse_labels(values: Sequence[str]) -> dict[str, str]:
    """The labels of `--label K=V`. Raises `click.BadParameter`."""
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"must be KEY=VALUE, got {value!r}.", param_hint="--label")
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep the value of an option that may stand before the command as well as after it."""
    if value is not None:
        context.meta[f"client.{parameter.name}"] = value


def remembered(name: str, default: Any) -> Any:
    """What was given for such an option."""
    return click.get_current_context().meta.get(f"client.{name}", default)


def everywhere(command: F) -> F:
    """Give a command, or the group, the options of all commands."""
    where = f"Where the runner is; or BUGNINJA_RUNNER_URL.  [default: {DEFAULT_URL}]"
    secret = "A file with the runner's token; or BUGNINJA_RUNNER_TOKEN is the token."  # noqa: S105
    for hidden in ("patience", "stall", "every"):
        command = kept(f"--{hidden}", type=seconds, hidden=True)(command)
    command = kept("--token-file", type=click.Path(exists=True, dir_okay=False), help=secret)(command)
    return kept("--url", help=where)(command)


def kept(name: str, **more: Any) -> Callable[[F], F]:
    """An option that `remembered` finds."""
    return click.option(name, expose_value=False, callback=remember, **more)


def make_api() -> Api:
    """The way to the runner that the options and the environment say. Raises `click.UsageError`."""
    text = remembered("url", os.environ.get("BUGNINJA_RUNNER_URL") or DEFAULT_URL)
    try:
        url = urlsplit(text.rstrip("/").removesuffix("/api/v1"))
        valid = url.scheme in ("http", "https") and url.hostname and (url.port or 80) and text.isascii()
    except ValueError:
        valid = False
    if not valid or re.search(r"[\s@?#\x00-\x1f]", text):
        raise click.UsageError(
            "The URL must be like https://runner.example:8000, without a user, a password or a query."
        )
    return Api(
        Connection(url, token(), lambda line: click.echo(clean(line), err=True), remembered("patience", PATIENCE))
    )


def token() -> str:
    """The token, empty if there is none. Raises `click.UsageError`, which does not show it."""
    path = remembered("token_file", None)
    try:
        content = Path(path).read_text() if path else os.environ.get("BUGNINJA_RUNNER_TOKEN", "")
    except (OSError, ValueError):
        raise click.UsageError(f"The token's file cannot be read: {path}.") from None
    found = content.strip()
    if not (found.isascii() and found.isprintable()):
        raise click.UsageError("The token must be one line of printable ASCII characters.")
    return found


def stall() -> float:
    """Seconds without a change, after which a missing worker ends the wait."""
    return float(remembered("stall", STALL))


def every() -> float:
    """Seconds from one plain summary to the next."""
    return float(remembered("every", SUMMARY_SECONDS))


def wait_line(batch_id: str) -> str:
    """The command that waits for this batch, also in another shell."""
    url = remembered("url", os.environ.get("BUGNINJA_RUNNER_URL"))
    options = {"--url": url, "--token-file": remembered("token_file", None)}
    return shlex.join([*called(), "wait", batch_id, *(word for pair in options.items() if pair[1] for word in pair)])


def called() -> list[str]:
    """The words by which this program was called."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return ["python", "-m", "runner.client"]
    return ["python3", sys.argv[0]] if name.endswith(".pyz") else [PROGRAM]


def complete_tasks(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The tasks whose name begins so, as far as the runner says at once."""
    try:
        with context:
            found = make_api().connection.once("GET", "/tasks?page_size=100", seconds=1).json()["items"]
        return [CompletionItem(item["id"]) for item in found if item["id"].startswith(incomplete)]
    except (Failed, click.ClickException, LookupError, TypeError):
        return []


OUTPUTS = (
    click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as JUnit XML."),
    click.option("--ctrf", type=click.Path(path_type=Path), metavar="FILE", help="Write the result as CTRF JSON."),
    click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report, as one HTML file."),
    click.option(
        "--artifacts",
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Write the last picture and the log of each run that did not pass.",
    ),
    click.option(
        "--github",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        show_default=True,
        help="Annotate a GitHub job and write its summary.",
    ),
    click.option("--timeout", type=seconds, metavar="TIME", help="Wait no longer than 90s, 60m or 2h; the runs go on."),
)
PROGRESS = (
    click.option("--json", "as_json", is_flag=True, help="Print the final document, and nothing else, on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Show the result only."),
)
STARTING = (
    click.option(
        "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label the runs; may be given 16 times."
    ),
    click.option("--detach", is_flag=True, help="Do not wait: print the ID."),
)


def with_options(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """All of these options at once."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
