"""Something of a warm start is killed or stopped: no run is lost, told wrong, or executed twice; nothing stays."""

from typing import Any

import psutil

from tests.project import Project
from tests.stack import Stack, work_horses
from tests.waiting import wait_for
from tests.watching import notes

LEAVING_SECONDS = 6  # in which a template without a worker ends its children and itself
NO_TRACE = "note:began child deaf visit sleep:60"  # a CLI that only SIGKILL ends, with a child in another session


class Started:
    """A warm run of the first worker, and its processes."""

    def __init__(self, project: Project, stack: Stack, behaviour: str, name: str = "buy") -> None:
        self.stack, self.name = stack, name
        self.folder = project.add_task(name, behaviour)
        self.worker = psutil.Process(stack.processes[2].pid)
        self.template = template_of(stack)
        self.run_id = stack.post(name)
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


def check_next(project: Project, stack: Stack, *, warm: bool | None) -> None:
    """The next run passes, warm or not; None if that does not matter."""
    project.add_task("next")
    document = stack.wait_final(stack.post("next"))
    assert document["current_state"] == "FINISHED"
    assert warm in (None, document["timing"]["warm"])


def test_the_cli_of_a_killed_template_goes_on(project: Project, stack: Stack) -> None:
    started = Started(project, stack, "note:began visit wait:go pass note:passed exit:0")
    started.template.kill()
    (started.folder / "go").touch()
    document = started.end()
    assert (document["current_state"], document["reason"], document["error_message"]) == ("FINISHED", None, None)
    check_next(project, stack, warm=None)
    assert template_of(stack) != started.template


def test_the_cli_of_a_stopped_template_goes_on(project: Project, stack: Stack) -> None:
    started = Started(project, stack, "note:began visit wait:go pass note:passed exit:0")
    started.template.suspend()
    (started.folder / "go").touch()
    assert started.end()["current_state"] == "FINISHED"
    started.template.resume()
    check_next(project, stack, warm=None)
    assert template_of(stack) == started.template


def test_without_a_file_the_error_says_that_nobody_knows_how_it_ended(project: Project, stack: Stack) -> None:
    started = Started(project, stack, "note:began print:no_model wait:go exit:3")
    started.template.kill()
    (started.folder / "go").touch()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "cli_error")
    assert document["error_message"] == "The CLI ended without writing a traversal. It said: no model"
    assert (document["failure"]["exit_code"], document["failure"]["signal"]) == (None, None)


def test_a_killed_cli_takes_nothing_with_it(project: Project, stack: Stack) -> None:
    started = Started(project, stack, NO_TRACE)
    started.cli.kill()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "cli_error")
    assert "ended by SIGKILL" in document["error_message"]
    check_next(project, stack, warm=True)
    assert template_of(stack) == started.template


def test_the_cli_of_a_killed_work_horse_is_ended(project: Project, stack: Stack) -> None:
    started = Started(project, stack, NO_TRACE)
    started.horse.kill()
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")
    check_next(project, stack, warm=True)
    assert template_of(stack) == started.template


def test_with_a_killed_worker_its_template_ends(project: Project, stack: Stack) -> None:
    started = Started(project, stack, NO_TRACE)
    started.worker.kill()
    wait_for(lambda: not started.template.is_running(), LEAVING_SECONDS, "the end of the template")
    document = started.end()
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")


def test_with_a_killed_worker_and_work_horse_a_template_ends_everything(project: Project, stack: Stack) -> None:
    started = Started(project, stack, NO_TRACE)
    started.worker.kill()
    started.horse.kill()
    wait_for(lambda: not started.template.is_running(), LEAVING_SECONDS, "the end of the template")
    wait_for(lambda: not stack.processes_with("BUGNINJA_RUN_ID", started.run_id), LEAVING_SECONDS, "that of the CLI")


def test_a_stopped_template_is_not_waited_for_and_starts_no_second_cli(project: Project, stack: Stack) -> None:
    template = template_of(stack)
    template.suspend()
    folder = project.add_task("buy", "note:began visit wait:go pass")
    run_id = stack.post("buy")
    wait_for(lambda: notes(project, "buy"), 20, "a cold CLI")
    template.resume()
    (folder / "go").touch()
    document = stack.wait_final(run_id)
    assert (document["current_state"], document["timing"]["warm"]) == ("FINISHED", False)
    check_next(project, stack, warm=True)  # which the template was asked for after the one before
    assert notes(project, "buy") == [f"{run_id} began"]
