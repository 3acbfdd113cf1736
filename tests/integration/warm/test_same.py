"""A warm CLI cannot be told from a cold one: by itself, by what it leaves behind, or by others."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from runner.cli.command import ProcessExit
from tests.integration.warm.cli_runs import AS_MODULE, AS_SCRIPT, SCRIPT, CliRuns, console_script
from tests.project import Project
from tests.waiting import first

NewRuns = Callable[..., CliRuns]
ENDS: dict[str, int | str] = {
    # what the CLI does: the code or the signal with which it ends
    "traversal:pending raises:it": 1,
    "argv traversal:pass": 0,
    "threads fork environ child": 0,
    "processes:fork loop": 0,
    "processes:spawn": 0,
    "logs thread-raises thread-goes-on": 0,
    "traversal:fail panel:Error exits:3": 3,
    "says:nothing": 1,
    "leaves:255": 255,
    "raises-in-context": 1,
    "interrupts": "SIGINT",
    "gets:PIPE deaf gets:TERM": 0,
    "traversal:pending dies:TERM": "SIGTERM",
    "traversal:pass dies:KILL": "SIGKILL",
    "dies:SEGV": "SIGSEGV",
    # more in `make soak`
    "exits:1": 1,
    "exits:2": 2,
    "exits:42": 42,
    "exits:127": 127,
    "raises-group": 1,
    "raises-late": 1,
    "has-own-hook raises:it": 1,
    "gets:INT": "SIGINT",
    "dies:INT": "SIGINT",
    "dies:HUP": "SIGHUP",
    "dies:USR1": "SIGUSR1",
    "dies:PIPE": "SIGPIPE",
}
QUICK = 15  # of them, in `make test`
FORMS = {
    "script": AS_SCRIPT,
    "module": AS_MODULE,
    "console script": "{console} {task_id} --run={run_id}",
    "relative script": f"{sys.executable} bin/../own.py {{task_id}}",
    "script on the PATH": "stand-in {task_id}",
    "link": f"{sys.executable} link.py {{task_id}}",
    "options of Python": f"{sys.executable} -X utf8 -W error::FutureWarning -B -O -u {SCRIPT} {{task_id}}",
    "a path of its own": f"{sys.executable} -P -m tests.warm_cli {{task_id}} -- --help",
}


@pytest.fixture
def new_runs(project: Project) -> Iterator[NewRuns]:
    """Makes runs of a command, with a template that is ready."""
    made: list[CliRuns] = []

    def make(command: str = AS_SCRIPT, **environ: str) -> CliRuns:
        made.append(CliRuns(project, command, **environ))
        made[-1].warm_up()
        return made[-1]

    yield make
    for runs in made:
        runs.template.end()


def command_in(project: Project, form: str) -> tuple[str, dict[str, str]]:
    """The command of this form, and the environment that it needs."""
    console = console_script(project)
    (project.root / "own.py").write_text(SCRIPT.read_text())
    (project.root / "link.py").symlink_to(SCRIPT)
    return FORMS[form].replace("{console}", str(console)), {"PATH": f"{console.parent}:{os.environ['PATH']}"}


def differences(cold: Any, warm: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """What the two do not have in common, by its place."""
    if isinstance(cold, dict) and isinstance(warm, dict):
        names = sorted({*cold, *warm})
        found = [differences(cold.get(name), warm.get(name), f"{where}/{name}") for name in names]
        return {name: pair for each in found for name, pair in each.items()}
    return {} if cold == warm else {where: (cold, warm)}


@pytest.mark.parametrize("form", FORMS)
def test_it_knows_the_same_of_itself(project: Project, new_runs: NewRuns, form: str) -> None:
    command, environ = command_in(project, form)
    runs = new_runs(command, **environ)
    project.add_task("facts", "facts")
    cold, warm = (facts_in(runs.run("facts", warm=warm).log) for warm in (False, True))
    found = differences(cold, warm)
    assert not found


def facts_in(log: str) -> Any:
    return json.loads(log[log.index("{") : log.rindex("}") + 1])


@pytest.mark.parametrize("form", ["script", "module", "console script", "relative script"])
def test_it_leaves_the_same_behind(project: Project, new_runs: NewRuns, form: str) -> None:
    command, environ = command_in(project, form)
    runs = new_runs(command, **environ)
    for number, (behaviour, end) in enumerate(first([*ENDS.items()], QUICK if form == "script" else 2)):
        project.add_task(f"task{number}", behaviour)
        warm, cold = (runs.run(f"task{number}", warm=warm) for warm in (True, False))
        assert warm == cold, behaviour
        assert warm.exit == (ProcessExit(None, end) if isinstance(end, str) else ProcessExit(end, None)), behaviour
        assert len(warm.traversals) == behaviour.count("traversal"), behaviour
        assert "no end of line" in warm.log, behaviour


def test_its_stack_has_two_frames_more_and_no_others(project: Project, new_runs: NewRuns) -> None:
    """So `traceback.print_stack()` shows two lines of the template, and recursion ends two or three calls before."""
    runs = new_runs()
    project.add_task("stack", "stack")
    told = [runs.run("stack", warm=warm).log.partition("no end of line")[2].splitlines()[0] for warm in (True, False)]
    (warm, depth), (cold, cold_depth) = (line.rsplit(" ", 1) for line in told)
    assert warm == cold.replace("[", "['<module>', 'run', ")
    assert 2 <= int(cold_depth) - int(depth) <= 3


def test_what_is_done_before_an_import_is_done_before_it(project: Project, new_runs: NewRuns) -> None:
    (project.root / "late.py").write_text("import os\nSEEN = os.environ.get('EARLY')\n")
    script = project.root / "early.py"
    script.write_text("'''Text'''\nimport os\nos.environ['EARLY'] = 'yes'\nimport late\nprint(late.SEEN)\n")
    runs = new_runs(f"{sys.executable} {script} {{task_id}}")
    project.add_task("buy")
    assert [runs.run("buy", warm=warm).log for warm in (True, False)] == ["yes\n", "yes\n"]


def test_two_runs_throw_other_dice(project: Project, new_runs: NewRuns) -> None:
    runs = new_runs()
    project.add_task("dice", "dice")
    thrown = [json.loads(runs.run("dice", warm=True).log.splitlines()[2].removeprefix("no end of line")) for _ in "123"]
    for values in zip(*thrown, strict=True):
        assert len(set(values)) == 3, values


def test_a_run_finds_nothing_of_the_one_before(project: Project, new_runs: NewRuns) -> None:
    runs = new_runs(PWD_OF_TEST=str(project.root))
    project.add_task("first", "environ leave-child:child leave-traces:first")
    project.add_task("second", "environ leave-traces:second")
    project.add_task("cold", "environ leave-traces:second")
    before, after, cold = (runs.run(task, warm=task != "cold") for task in ("first", "second", "cold"))
    assert before.exit == after.exit == cold.exit == ProcessExit(0, None)
    assert after.log.replace("second", "cold") == cold.log.replace("second", "cold")
    assert "first" not in after.log
    assert sorted(path.name for path in (project.root / "tasks" / "second").iterdir()) == [
        "behaviour",
        "behaviour-replay",
        "runs",
        "task_second.toml",
    ]
