"""Something of a warm start is killed or stopped: no run is lost, told wrong, or executed twice; nothing stays."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from jobs.run.verdict import EXIT_UNKNOWN
from runner.ids import new_run_id
from tests.project import Project
from tests.stack import Stack, work_horses
from tests.waiting import wait_for
from tests.watching import notes

LEAVING_SECONDS = 6  # in which a template without a worker ends its children and itself
NO_TRACE = "note:began child deaf visit sleep:60"  # a CLI that only SIGKILL ends, with a child in another session


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack for all tests after which its worker lives."""
    folder = tmp_path_factory.mktemp("shared")
    stack = Stack(Project(folder / "project"), folder)
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    yield stack
    stack.close()


class Started:
    """A warm run of the first worker, and its processes."""

    def __init__(self, stack: Stack, behaviour: str) -> None:
        self.stack, self.name = stack, new_run_id()
        self.folder = stack.project.add_task(self.name, behaviour)
        self.worker = psutil.Process(stack.processes[2].pid)
        self.template = template_of(stack)
        self.run_id = stack.post(self.name)
        wait_for(lambda: (self.folder / "notes").exists(), what="the CLI")
        (self.cli,) = [process for process in self.template.children() if process.ppid() == self.template.pid]
        (self.horse,) = work_horses(self.worker.pid)

    def end(self) -> dict[str, Any]:
        """The document of the run, which one CLI has executed."""
        document = self.stack.wait_final(self.run_id)
        assert [line for line in notes(self.stack.project, self.name) if "began" in line] == [f"{self.run_id} began"]
        wait_for(lambda: not self.stack.processes_with("BUGNINJA_RUN_ID", self.run_id), what="the end of all processes")
        return document


def template_of(stack: Stack) -> psutil.Process:
    """The template of the first worker, as soon as it is ready."""

    def find() -> list[psutil.Process]:
        children = psutil.Process(stack.processes[2].pid).children()
        return [child for child in children if f"event=template_ready pid={child.pid} " in stack.log("worker")]

    return wait_for(find, what="a template")[0]


def check_next(stack: Stack, *, warm: bool | None) -> None:
    """The next run passes, warm or not; None if that does not matter."""
    task = new_run_id()
    stack.project.add_task(task)
    document = stack.wait_final(stack.post(task))
    assert document["current_state"] == "FINISHED"
    assert warm in (None, document["timing"]["warm"])


def test_the_cli_of_a_killed_template_goes_on(shared: Stack) -> None:
    started = Started(shared, "note:began visit wait:go pass note:passed exit:0")
    started.template.kill()
    (started.folder / "go").touch()
    document = started.end()
    assert (document["current_state"], document["reason"], document["error_message"]) == ("FINISHED", None, None)
    check_next(shared, warm=None)
    assert template_of(shared) != started.template
    assert "event=swept" not in shared.log("worker")


def test_the_cli_of_a_stopped_template_goes_on(shared: Stack) -> None:
    started = Started(shared, "note:began visit wait:go pass note:passed exit:0")
    started.template.suspend()
    (started.folder / "go").touch()
    assert started.end()["current_state"] == "FINISHED"
    wait_for(lambda: not started.template.is_running(), what="its end")
    template_of(shared)
    check_next(shared, warm=True)


def test_without_a_file_the_error_says_that_nobody_knows_how_it_ended(shared: Stack) -> None:
    started = Started(shared, "note:began print:no_model wait:go exit:3")
    started.template.kill()
    (started.folder / "go").touch()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "cli_error")
    assert document["error_message"] == f"{EXIT_UNKNOWN} It said: no model"
    assert (document["failure"]["exit_code"], document["failure"]["signal"]) == (None, None)
    check_next(shared, warm=None)


def test_a_killed_cli_takes_nothing_with_it(shared: Stack) -> None:
    started = Started(shared, NO_TRACE)
    started.cli.kill()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "cli_error")
    assert "ended by SIGKILL" in document["error_message"]
    check_next(shared, warm=True)
    assert template_of(shared) == started.template


def test_the_cli_of_a_killed_work_horse_is_ended(shared: Stack) -> None:
    started = Started(shared, NO_TRACE)
    started.horse.kill()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")
    check_next(shared, warm=True)
    assert template_of(shared) == started.template


def test_with_a_killed_worker_its_template_ends(stack: Stack) -> None:
    started = Started(stack, NO_TRACE)
    started.worker.kill()
    wait_for(lambda: not started.template.is_running(), LEAVING_SECONDS, "the end of the template")
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")


def test_with_a_killed_worker_and_work_horse_a_template_ends_everything(stack: Stack) -> None:
    started = Started(stack, NO_TRACE)
    started.worker.kill()
    started.horse.kill()
    wait_for(lambda: not started.template.is_running(), LEAVING_SECONDS, "the end of the template")
    wait_for(lambda: not stack.processes_with("BUGNINJA_RUN_ID", started.run_id), LEAVING_SECONDS, "that of the CLI")


def test_a_stopped_template_is_not_waited_for_and_starts_no_second_cli(shared: Stack) -> None:
    template = template_of(shared)
    folder = shared.project.add_task("stopped", "note:began visit wait:go pass")
    template.suspend()
    run_id = shared.post("stopped")
    wait_for(lambda: notes(shared.project, "stopped"), 20, "a cold CLI")
    with contextlib.suppress(psutil.NoSuchProcess):  # the worker may have ended it
        template.resume()
    (folder / "go").touch()
    document = shared.wait_final(run_id)
    assert (document["current_state"], document["timing"]["warm"]) == ("FINISHED", False)
    template_of(shared)
    check_next(shared, warm=True)
    assert notes(shared.project, "stopped") == [f"{run_id} began"]
