"""The commands that start and follow batches, and the program itself."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from runner.client.batches import JSON, NO_RUNNER, Api, Batch
from runner.client.ci import idempotency_key
from runner.client.ci import labels as labels_of
from runner.client.connection import Failed, Refused
from runner.client.github import commands_off, is_on, report
from runner.client.lines import Lines, Quiet, View, clean, is_terminal, lost_output, make_writable, size_text, summary
from runner.client.looking import LOOKING
from runner.client.options import (
    OUTPUTS,
    PROGRAM,
    PROGRESS,
    STARTING,
    complete_tasks,
    every,
    everywhere,
    make_api,
    parse_labels,
    parse_tags,
    stall,
    wait_line,
    with_options,
)
from runner.client.reports import Wanted, cards, write
from runner.client.session import NO_ANSWER, Session


class Output(NamedTuple):
    """How the result is shown, and where it is written."""

    junit: Path | None = None
    ctrf: Path | None = None
    html: Path | None = None
    artifacts: Path | None = None
    github: str = "off"
    timeout: float | None = None
    as_json: bool = False
    quiet: bool = False

    @property
    def wanted(self) -> Wanted:
        """The files to write."""
        return Wanted(self.junit, self.ctrf, self.html, self.artifacts)

    def view(self) -> View:
        """What shows the progress."""
        if self.quiet:
            return Quiet()
        if is_terminal(sys.stderr):
            from runner.client.live import LiveTable

            return LiveTable()
        return Lines(sys.stderr, every())

    def tell(self, text: str) -> None:
        """Show a text with the result: on stdout, unless that is for the document only."""
        click.echo(text, err=self.as_json)


class RunCommand(click.Command):
    """`--fail-fast` may have a value, but only after a `=`: the next word is a task."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--fail-fast=1" if arg == "--fail-fast" else arg for arg in args])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@everywhere
def cli() -> None:
    """Run tests on a Bugninja Runner, and wait for their result.

    The exit code is 0 if all passed, 1 if a test failed, 2 for wrong usage, 3 if none failed but some could not be run
    to their end, 4 if the runner or its worker does not answer, 5 after --timeout, 130 and 143 when interrupted.
    """


@cli.command(cls=RunCommand)
@click.argument("tasks", nargs=-1, metavar="[TASK]...", shell_complete=complete_tasks)
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG[,TAG]...", help="Tasks with all of these tags; again for others."
)
@click.option("--all", "every_task", is_flag=True, help="All tasks.")
@click.option("--mode", type=click.Choice(["agentic", "replay", "heal"]), default="agentic", show_default=True)
@click.option("--name", default="", help="What the batch is called.")
@click.option("--fail-fast", type=click.IntRange(1), metavar="[=N]", help="Stop the rest after 1 (or N) did not pass.")
@with_options(*STARTING, *OUTPUTS, *PROGRESS, everywhere)
def run(
    tasks: tuple[str, ...], tags: tuple[str, ...], every_task: bool, labels: tuple[str, ...], detach: bool, **more: Any
) -> int:
    """Start tasks as one batch, and wait for its result.

    Example: bugninja-runner run --tag smoke,shop --tag login --timeout 60m --junit results.xml
    """
    if sum(map(bool, (tasks, tags, every_task))) != 1:
        raise click.UsageError("Say which tests: either TASKs, or --tag, or --all.")
    which: JSON = {"tasks": list(tasks)} if tasks else {"tags": parse_tags(tags)} if tags else {"all": True}
    body = {**which, **{key: more.pop(key) for key in ("name", "mode", "fail_fast")}, "labels": all_labels(labels)}
    return start(make_api(), lambda api: api.start("batches", "/batches", body, new_key), detach, Output(**more))


@cli.command()
@click.argument("id")
@click.option("--failed", is_flag=True, help="Only what did not pass.")
@with_options(*STARTING, *OUTPUTS, *PROGRESS, everywhere)
def rerun(id: str, failed: bool, labels: tuple[str, ...], detach: bool, **more: Any) -> int:
    """Start a batch or a run again, and wait for the result.

    Example: bugninja-runner rerun jv2iibj7cbzvwogjifeudc8g --failed
    """
    labelled = all_labels(labels)

    def begin(api: Api) -> tuple[Batch, bool]:
        before = api.find(id)
        if failed and before.kind == "test-runs" and not before.to_explain:
            raise Refused(409, f"The run {before.id} has not failed.")
        only = "?only=failed" if failed and before.kind == "batches" else ""
        return api.start(before.kind, f"{before.path}/rerun{only}", {"labels": labelled} if labelled else {}, new_key)

    return start(make_api(), begin, detach, Output(**more))


@cli.command()
@click.argument("id")
@with_options(*OUTPUTS, *PROGRESS, everywhere)
def wait(id: str, **more: Any) -> int:
    """Wait for a batch or a run, also one that is over, and print its result.

    Example: bugninja-runner wait jv2iibj7cbzvwogjifeudc8g --timeout 10m
    """
    api, output = make_api(), Output(**more)
    return follow(api, lambda: api.find(id), False, output)


@cli.command()
@click.argument("id")
@everywhere
def watch(id: str) -> int:
    """Show a batch or a run live.

    Example: bugninja-runner watch jv2iibj7cbzvwogjifeudc8g
    """
    api = make_api()
    return follow(api, lambda: api.find(id), False, Output())


@cli.command()
@click.argument("id")
@everywhere
def stop(id: str) -> None:
    """Stop a batch or a run.

    Example: bugninja-runner stop jv2iibj7cbzvwogjifeudc8g
    """
    api = make_api()
    batch = api.stop(api.find(id))
    click.echo(f"{batch.id} is stopped." if batch.over else f"{batch.id} is being stopped.")


for command in LOOKING:
    cli.add_command(command)


def all_labels(given: tuple[str, ...]) -> dict[str, str]:
    """The labels of the CI, and those that were given."""
    return {**labels_of(os.environ), **parse_labels(given)}


def new_key(request: bytes) -> str:
    """An Idempotency-Key: of the CI's job and this request, or else a random one."""
    return idempotency_key(os.environ, request) or os.urandom(16).hex()


def start(api: Api, begin: Callable[[Api], tuple[Batch, bool]], detach: bool, output: Output) -> int:
    """Start something, and wait for it unless it is detached. Returns the exit code."""
    if detach and (output.timeout or output.wanted):
        raise click.UsageError("--detach does not wait, so there can be no --timeout and no report.")

    def ready_batch() -> Batch:
        if missing := api.missing():
            raise Failed(missing)
        batch, before = begin(api)
        if not output.quiet:
            was = "This was requested before; it is" if before else "Started"
            api.connection.warn(f"{was} {batch.id}: {size_text(batch)}, {api.connection.address}{batch.page}")
        return batch

    return follow(api, ready_batch, True, output) if not detach else show_detached(ready_batch(), output)


def show_detached(batch: Batch, output: Output) -> int:
    """Show what was started, and how to wait for it. Returns the exit code."""
    click.echo(as_json(batch) if output.as_json else batch.id)
    if not output.quiet:
        click.echo(wait_line(batch.id), err=True)
    return 0


def follow(api: Api, begin: Callable[[], Batch], ours: bool, output: Output) -> int:
    """Follow a batch to its end; show and write its result. Returns the exit code."""
    session = Session(api, output.view(), begin, ours, output.timeout, stall())
    with commands_off(is_on(output.github, os.environ), sys.stderr):
        code = session.watch()
        if session.error:
            complain(session.error)
        if not session.batch:
            return code
        if session.batch.over:
            api.connection.warn = complain
        show_result(session.batch, api.connection.address, output)
    problems = write_reports(api, session.batch, output)
    for sentence in problems:
        complain(sentence)
    return code or (NO_ANSWER if problems else 0)


def show_result(batch: Batch, address: str, output: Output) -> None:
    """Print the summary; of a batch that goes on also how to wait for it. Print the document if that is wanted."""
    if output.as_json:
        click.echo(as_json(batch))
    else:
        click.echo(summary(batch, address))
    if not batch.over:
        going_on = " ".join(run.id for run in batch.runs if not run.over)
        output.tell(f"These runs go on: {going_on}\n{wait_line(batch.id)}")


def as_json(batch: Batch) -> str:
    """The document on one line, which is no command of a CI."""
    return json.dumps(batch.document).replace("##", "\\u0023#")


def write_reports(api: Api, batch: Batch, output: Output) -> list[str]:
    """Write the reports. Returns a sentence for each that could not be written."""
    problems = write(api, batch, output.wanted)
    if is_on(output.github, os.environ):
        try:
            found = list(cards(api, batch))
            report(batch.document, found, api.connection.address + batch.page, os.environ, sys.stderr)
        except OSError as error:
            problems.append(f"The job's summary cannot be written: {error.strerror}.")
    return problems


def complain(text: str) -> None:
    """Write a sentence on stderr."""
    click.echo(clean(text), err=True)


def terminated(*_: object) -> NoReturn:
    """End on SIGTERM, as long as there is nothing to stop."""
    sys.exit(128 + signal.SIGTERM)


def main() -> NoReturn:
    """Run the command of `sys.argv`, and exit with its code."""
    make_writable()
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = cli.main(prog_name=PROGRAM, standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        code = 2
    except click.Abort:
        code = 128 + signal.SIGINT
    except Failed as error:
        complain(str(error))
        code = error.code
    except (LookupError, TypeError, ValueError):
        complain(NO_RUNNER)
        code = NO_ANSWER
    except Exception as error:  # noqa: BLE001 (Python would end with 1, which is a failed test)
        complain(f"This is a fault of the client: {type(error).__name__}: {error}")
        code = NO_ANSWER
    if why := lost_output():
        complain(f"The output could not be written: {why}.")
        code = code or NO_ANSWER
    sys.exit(code)
