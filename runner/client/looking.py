"""The commands that only look: lists, logs, reports and pages."""

import codecs
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from runner.client.batches import JSON, Api
from runner.client.connection import Failed
from runner.client.lines import clean, clean_lines, duration_text
from runner.client.options import PROGRAM, everywhere, make_api
from runner.client.reports import attempt, download

NEWEST = 10
LOOK_AGAIN = 0.5  # seconds from one look at a log to the next


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of foreign texts in columns, below a head; null is empty."""
    cells = [list(head), *([clean("" if cell is None else str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)


def duration(seconds: Any) -> str | None:
    """A duration of the server as a text; None for null."""
    return None if seconds is None else duration_text(float(seconds))


def pages(api: Api, path: str) -> Iterator[JSON]:
    """The items of all pages of a list."""
    page, there_is_more = 1, True
    while there_is_more:
        document = api.connection.get(f"{path}?page={page}&page_size=100").json()
        yield from document["items"]
        page, there_is_more = page + 1, document["has_next"]


@click.command("list")
@everywhere
def list_newest() -> None:
    """List the newest batches and runs.

    Example: bugninja-runner list
    """
    connection = make_api().connection
    batches = connection.get(f"/batches?page_size={NEWEST}").json()["items"]
    runs = connection.get(f"/test-runs?page_size={NEWEST}").json()["items"]
    of_batches = [(b["id"], b["current_state"], b["queued_at"], b["counts"]["total"], b["name"]) for b in batches]
    of_runs = [
        (r["id"], r["current_state"], r["queued_at"], duration(r["duration"]), (r["test_case"] or {}).get("id"))
        for r in runs
    ]
    click.echo(table(("BATCH", "STATE", "QUEUED", "RUNS", "NAME"), of_batches))
    click.echo("\n" + table(("RUN", "STATE", "QUEUED", "DURATION", "TASK"), of_runs))


@click.command("tasks")
@everywhere
def list_tasks() -> None:
    """List the tasks.

    Example: bugninja-runner tasks
    """
    found = sorted(pages(make_api(), "/tasks"), key=lambda task: str(task["id"]))
    rows = [(t["id"], t["total_runs"], t["last_run_at"], t["error"] or t["test_name"]) for t in found]
    click.echo(table(("TASK", "RUNS", "LAST RUN", "NAME"), rows))


@click.command("stats")
@everywhere
def show_stats() -> None:
    """Show how the tasks do, the worst first.

    Example: bugninja-runner stats
    """
    found = make_api().connection.get("/stats?sort=health").json()
    rows = [
        (s["task_id"], s["health"], percent(s["pass_rate"]), percent(s["flip_rate"]), duration(s["duration"]["p50"]))
        for s in found
    ]
    click.echo(table(("TASK", "HEALTH", "PASSED", "FLIPS", "MEDIAN"), rows))


def percent(rate: Any) -> str | None:
    """A rate of the server as a text; None for null."""
    return None if rate is None else f"{float(rate):.0%}"


@click.command("log")
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@everywhere
def show_log(run: str, follow: bool) -> None:
    """Print the log of a run.

    Example: bugninja-runner log n2iibj7cbzvwogjifeudc8gl -f
    """
    api, offset, rest = make_api(), 0, ""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    over = not follow
    while True:
        batch = api.read("test-runs", run)
        over = over or batch.over
        answer = api.connection.get(f"{batch.path}/log?offset={offset}", raw=True)
        offset = int(answer.headers["X-Next-Offset"] or offset + len(answer.body))
        text = rest + decode(answer.body, over)
        end = len(text) if over else text.rfind("\n") + 1  # half of what would be a command looks like none
        click.echo(clean_lines(text[:end]), nl=False)
        rest = text[end:]
        sys.stdout.flush()
        if over:
            return
        time.sleep(LOOK_AGAIN)


@click.command("report")
@click.argument("id")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Where to write it."
)
@everywhere
def save_report(id: str, output: Path) -> None:
    """Write the report of a batch or a run as one HTML file.

    Example: bugninja-runner report n2iibj7cbzvwogjifeudc8gl -o report.html
    """
    api = make_api()
    source = f"{api.find(id).path}/report.html"
    if problem := attempt(output, partial(download, api, source, output)):
        raise Failed(problem)


@click.command("open")
@click.argument("id")
@everywhere
def open_page(id: str) -> None:
    """Print the address of a batch or a run, and show its page in a browser.

    Example: bugninja-runner open n2iibj7cbzvwogjifeudc8gl
    """
    import webbrowser

    api = make_api()
    address = api.connection.address + api.find(id).page
    click.echo(address)
    webbrowser.open(address)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def print_completion(context: click.Context, shell: str) -> None:
    """Print what lets a shell complete commands, options and tasks.

    Example: eval "$(bugninja-runner completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind:
        variable = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"
        click.echo(kind(context.find_root().command, {}, PROGRAM, variable).source())


LOOKING = (list_newest, list_tasks, show_stats, show_log, save_report, open_page, print_completion)
