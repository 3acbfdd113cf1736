"""Who adopts orphans finds, ends and forgets all that it has started, and nothing else."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner.cli import process as module
from runner.cli.children import PR_SET_CHILD_SUBREAPER, Children, adopt_orphans, adopts_orphans
from runner.cli.command import Command, ProcessExit
from runner.cli.process import CliProcess, end_processes, memory_of, run_of, run_processes
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor
from tests.stack import ROOT
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt others")
Start = Callable[..., CliProcess]
FORKS = """
echo $$ >> {folder}/forks
while [ ! -e {folder}/go ]; do sleep 0.01; done
[ $1 = 0 ] && exec sleep 60
setsid env -i sh -c "$2" sh $(($1 - 1)) "$2" &
"""


@pytest.fixture
def adopting() -> Iterator[None]:
    """This process adopts orphans."""
    adopt_orphans()
    yield
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    assert not adopts_orphans()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "tasks", TaskId("buy"), RunId("r" * 24))
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def start(folder: RunFolder, adopting: None) -> Iterator[Start]:
    """Starts a script as the CLI of the run."""
    started: list[CliProcess] = []

    def run(script: str, *words: str) -> CliProcess:
        environ = {"PATH": os.environ["PATH"], "BUGNINJA_RUN_FOLDER": str(folder.path)}
        process = CliProcess(Command(("sh", "-c", script, "sh", *words), environ, folder.path), folder, Redactor([]))
        started.append(process)
        return process

    yield run
    for process in started:
        process.end(0)
        process.clear()


def pids_in(path: Path, count: int = 1) -> list[int]:
    wait_for(lambda: path.exists() and path.read_text().count("\n") >= count, 10, path.name)
    return [int(line) for line in path.read_text().split()]


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def zombies() -> list[int]:
    """The children of this process that have ended, and were not waited for."""
    return [child.pid for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


def test_a_process_adopts_for_itself_only() -> None:
    code = (
        "import os; from runner.cli.children import adopt_orphans, adopts_orphans as adopts; before = adopts();"
        "adopt_orphans(); read, write = os.pipe();"
        "os.fork() or (os.write(write, str(adopts()).encode()), os._exit(0)); os.wait();"
        "print(before, adopts(), os.read(read, 9).decode())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed == "False True False\n"


ORPHAN = "setsid env -i sh -c \"trap '' TERM; echo \\$\\$ > orphan; while :; do sleep 0.1; done\" &"


@pytest.mark.parametrize("rest", ["exit 3", "exec sleep 60"])
def test_an_orphan_without_a_trace_is_ended_with_the_run(start: Start, folder: RunFolder, rest: str) -> None:
    process = start(f"({ORPHAN}) ; while [ ! -s orphan ]; do sleep 0.01; done; {rest}")
    (pid,) = pids_in(folder.path / "orphan")
    if rest == "exit 3":
        assert process.wait(10) == ProcessExit(3, None)
    assert run_of(psutil.Process(pid)) is None
    wait_for(lambda: psutil.Process(pid).ppid() == os.getpid(), 10, "its adoption")
    assert psutil.Process(pid) not in run_processes(folder.path)
    if rest != "exit 3":
        assert process.end(5) == ProcessExit(None, "SIGTERM")
    assert process.clear() == 0
    assert not is_alive(pid)


def test_an_orphan_that_has_ended_is_no_zombie_for_long(start: Start, folder: RunFolder) -> None:
    began = "while [ $((n=n+1)) -le 50 ]; do (setsid env -i true &) ; done; echo > began; "
    process = start(f"{began} while [ ! -e go ]; do sleep 0.01; done; exit 3")
    pids_in(folder.path / "began", 0)
    wait_for(zombies, 10, "the first that has ended")
    assert process.wait(0.01) is None

    def none_is_left() -> bool:
        assert process.wait(0.01) is None
        return not zombies() and len(psutil.Process().children()) == 1

    wait_for(none_is_left, 10, "the end of all zombies")
    (folder.path / "go").touch()
    assert process.wait(10) == ProcessExit(3, None)


def test_a_cli_that_ends_just_when_orphans_are_waited_for_is_not_missed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start("exit 3")
    wait_for(zombies, 10, "its end")

    def too_early(timeout: float) -> None:
        raise psutil.TimeoutExpired(timeout)

    with monkeypatch.context() as patch:
        patch.setattr(process._process, "wait", too_early)
        assert process.wait(0.01) is None
    process._children.reap(but=process.pid)
    assert process.wait(10) == ProcessExit(3, None)


def test_what_was_there_before_is_nobodys_affair(adopting: None, start: Start, folder: RunFolder) -> None:
    code = "import subprocess, sys; subprocess.run(['sleep', '60']) if sys.stdin.read() else sys.exit(7)"
    ended, lives = (subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for _ in range(2))
    assert ended.stdin is not None
    assert lives.stdin is not None
    try:
        process = start("exec sleep 60")
        with lives.stdin as stdin:
            stdin.write(b"x")
        wait_for(lambda: psutil.Process(lives.pid).children(), 10, "a child that was not there before")
        ended.stdin.close()
        wait_for(zombies, 10, "its end")
        assert process._children.processes() == {psutil.Process(process.pid)}
        assert process.wait(0.01) is None
        assert process.end(5) == ProcessExit(None, "SIGTERM")
        assert process.clear() == 0
        assert not process._children.are_left()
        assert lives.poll() is None
        assert psutil.Process(lives.pid).children()
        assert ended.wait(10) == 7
    finally:
        end_processes(folder.path, also=[*psutil.Process(lives.pid).children(), psutil.Process(lives.pid)])
        lives.wait()
        ended.wait()


def test_one_that_was_there_before_and_has_ended_hides_no_other(start: Start, folder: RunFolder) -> None:
    with subprocess.Popen(["sh", "-c", "read x"], stdin=subprocess.PIPE) as before:
        process = start("(setsid env -i true &) ; while [ ! -e go ]; do sleep 0.01; done")
        assert before.stdin is not None
        before.stdin.close()
        wait_for(lambda: len(zombies()) == 2, 10, "the end of both")
        assert process.wait(0.01) is None
        assert zombies() == [before.pid]
        (folder.path / "go").touch()
        assert process.wait(10) == ProcessExit(0, None)
        assert process.clear() == 0


def test_who_does_not_adopt_has_no_children_to_end() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        children = Children()
        with subprocess.Popen(["true"]) as another:
            assert children.processes() == set()
            wait_for(lambda: psutil.Process(another.pid).status() == psutil.STATUS_ZOMBIE, 10, "its end")
            children.reap()
            assert not children.are_left()
            assert another.wait(10) == 0
        other.kill()


def test_generations_that_follow_each_other_while_all_is_ended_are_ended_as_well(
    start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill, loop = module._kill, FORKS.format(folder=folder.path)

    def let_go_and_kill(process: psutil.Process) -> None:
        (folder.path / "go").touch()
        kill(process)

    process = start(f'setsid env -i sh -c "$1" sh 20 "$1" & {loop.splitlines()[2]}; exec sleep 60', loop)
    pids_in(folder.path / "forks")
    monkeypatch.setattr(module, "_kill", let_go_and_kill)
    process.end(0)
    assert process.clear() == 0
    assert not any(is_alive(pid) for pid in pids_in(folder.path / "forks"))
    assert not psutil.Process().children()


def test_what_cannot_be_seen_yet_is_waited_for(
    start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two generations a look at all processes may find neither; but we know that there is one."""
    process = start(f"({ORPHAN}) ; while [ ! -s orphan ]; do sleep 0.01; done")
    (pid,) = pids_in(folder.path / "orphan")
    assert process.wait(10) == ProcessExit(0, None)
    see, looks = Children.processes, list[int]()

    def look(children: Children) -> set[psutil.Process]:
        looks.append(1)
        return set() if len(looks) < 3 else see(children)

    monkeypatch.setattr(Children, "processes", look)
    assert process.clear() == 0
    assert not is_alive(pid)


def test_one_that_is_never_seen_counts_as_left_in_time(
    start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(f"({ORPHAN}) ; while [ ! -s orphan ]; do sleep 0.01; done")
    pids_in(folder.path / "orphan")
    assert process.wait(10) == ProcessExit(0, None)
    with monkeypatch.context() as patch:
        patch.setattr(Children, "processes", lambda _: set())
        patch.setattr(module, "SWEEP_SECONDS", 0.2)
        assert end_processes(folder.path, children=process._children) == 1


def test_the_memory_of_a_run_is_that_of_all_its_processes(start: Start, folder: RunFolder) -> None:
    eater = "x = b'x' * 50_000_000; print(end='', file=open('eats', 'w')); import time; time.sleep(60)"
    process = start(f'(setsid env -i {sys.executable} -c "{eater}" &) ; exec sleep 60')
    small = process.memory()
    wait_for(lambda: (folder.path / "eats").exists(), 10, "an orphan that takes memory")
    assert 0 < small < 50_000_000 < process.memory() < 80_000_000
    process.end(0)
    assert process.memory() == 0


def test_without_adoption_the_memory_is_that_of_what_carries_the_folder(folder: RunFolder) -> None:
    environ = {"PATH": os.environ["PATH"], "BUGNINJA_RUN_FOLDER": str(folder.path)}
    process = CliProcess(Command(("sleep", "60"), environ, folder.path), folder, Redactor([]))
    try:
        assert process.memory() > 0
    finally:
        process.end(0)
        process.clear()


class Denied:
    """A process whose shared memory cannot be told apart, or which is gone."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = [*faults]

    def memory_full_info(self) -> object:
        raise self.faults[0]

    def memory_info(self) -> object:
        if len(self.faults) > 1:
            raise self.faults[1]
        return type("Memory", (), {"rss": 5})


@pytest.mark.parametrize(
    ("faults", "used"),
    [
        ([psutil.AccessDenied(1)], 5),
        ([AttributeError("pss")], 5),
        ([psutil.NoSuchProcess(1)], 0),
        ([psutil.ZombieProcess(1)], 0),
        ([psutil.AccessDenied(1), psutil.AccessDenied(1)], 0),
    ],
)
def test_a_process_whose_memory_cannot_be_read_does_no_harm(faults: list[Exception], used: int) -> None:
    process: list[psutil.Process] = [Denied(*faults), psutil.Process()]  # type: ignore[list-item]
    own = psutil.Process().memory_full_info().pss
    assert abs(memory_of(process) - used - own) < 5_000_000
    assert memory_of(process[:1]) == used


def test_shared_memory_counts_once() -> None:
    """A process and its fork have the same pages."""
    code = "import os, sys; x = b'x' * 50_000_000; os.fork(); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as both:
        assert both.stdout is not None
        assert [both.stdout.readline() for _ in range(2)] == [b"\n"] * 2
        parent = psutil.Process(both.pid)
        used = memory_of([parent, *parent.children()])
        assert 50_000_000 < used < 90_000_000
        assert both.stdin is not None
        both.stdin.close()
