"""What stands in the project in place of a file or a folder: no request hangs, fails, or shows what is outside."""

import errno
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobs.run.record import Outcome, RunRecord, record_to_json
from jobs.run.state import Origin, Reason, RunType, State
from runner import files
from runner.ids import RunId, TaskId
from tests.project import PASSED, VISIT, Project, traversal_bytes
from tests.unit.api.asking import MADE, OPEN, OVER, PICTURE, Asker, of
from tests.unit.fake_stack import FakeStack

PLANTED = "planted-outside"
KINDS = ("good", "fifo", "link", "loop", "folder", "device", "foreign")
AT = datetime(2026, 1, 1, tzinfo=UTC)
TRAVERSAL = f"traversals/traverse_20260101_080000_{MADE}.json"
BOTH = (OVER, OPEN)
PLACES = (
    (TRAVERSAL,),
    tuple(f"runs/{run_id}/run.json" for run_id in BOTH),
    (PICTURE, *(f"runs/{run_id}/cli.log" for run_id in BOTH)),
    ("runs/.lock", *(f"runs/{run_id}/{name}" for run_id in BOTH for name in ("lock", "reserve", "stop", "kept-id"))),
    ("task_TASK.toml",),
    ("screenshots/run", "runs/.adopted"),
    ("screenshots", "traversals"),
    ("runs",),
    tuple(f"runs/{run_id}" for run_id in BOTH),
)
"""What is replaced at once in a task."""


def fill(folder: Path, text: str) -> None:
    """A task with all that there can be, which says this text everywhere."""
    task = folder.name
    outcome = Outcome(State.FAILED, Reason.TEST_FAILED, text, AT)
    for name in (PICTURE, TRAVERSAL, "runs/.adopted/x", *PLACES[1], *PLACES[2], *PLACES[3]):
        place(folder, name).parent.mkdir(parents=True, exist_ok=True)
        place(folder, name).write_text(text)
    for run_id in (OVER, OPEN):
        record = RunRecord(
            of(run_id, task), TaskId(task), None, None, RunType.AGENTIC, Origin.WEB_UI, AT,
            outcome=outcome if run_id == OVER else None,
        )  # fmt: skip
        place(folder, f"runs/{run_id}/run.json").write_bytes(record_to_json(record))
    place(folder, TRAVERSAL).write_bytes(traversal_bytes([VISIT, ("done", {"text": text})], "SUCCESSFUL"))
    place(folder, "task_TASK.toml").write_text(f'[task]\nname = "{text}"\n')


def place(folder: Path, name: str) -> Path:
    """Where that is in the folder of a task."""
    for run_id in (OVER, OPEN, MADE):
        name = name.replace(run_id, of(run_id, folder.name))
    return folder / name.replace("TASK", folder.name)


def make_odd(path: Path, kind: str, outside: Path) -> None:
    """Put something of this kind in the place of a file or a folder."""
    path.rename(path.with_name(f"was-{path.name}"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": outside, "loop": path, "device": Path("/dev/zero")}[kind])


def read_tree(folder: Path) -> dict[str, bytes]:
    """All that is in the folder."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.fixture
def ask(stack: FakeStack) -> Asker:
    return Asker(stack, [PLANTED])


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes files and folders those of another user, which cannot be opened."""
    inodes: set[int] = set()
    really_open = os.open

    def open_ours(*args: Any, **options: Any) -> int:
        handle = really_open(*args, **options)
        if os.fstat(handle).st_ino in inodes:
            os.close(handle)
            raise PermissionError(errno.EACCES, "Permission denied")
        return handle

    monkeypatch.setattr(os, "open", open_ours)
    return lambda path: inodes.add(path.stat().st_ino)


@pytest.mark.parametrize("names", PLACES, ids=lambda names: names[0])
def test_nothing_odd_in_the_place_of_a_file_stops_anything(
    stack: FakeStack, ask: Asker, tmp_path: Path, foreign: Callable[[Path], None], names: tuple[str, ...]
) -> None:
    outside, tasks = tmp_path / "outside", stack.settings.tasks_root
    for kind in KINDS:
        fill(outside / kind, PLANTED)
        fill(tasks / kind, "ours")
        for name in names:
            path = place(tasks / kind, name)
            if kind == "foreign":
                foreign(path)
            elif kind != "good":
                make_odd(path, kind, place(outside / kind, name))
    before = read_tree(outside)
    for kind in KINDS[1:]:
        ask.everything(kind)
    assert {of(run, "good") for run in (OVER, OPEN, MADE)} <= {*ask.lists()}
    for run_id in (of(run, kind) for run in (OVER, OPEN, MADE) for kind in KINDS[1:]):
        ask(f"/test-runs/{run_id}")
    assert read_tree(outside) == before
    assert ask(f"/test-runs/{of(OVER, 'good')}").json()["error_message"] == "ours"


@pytest.mark.parametrize("kind", KINDS[1:-1])
def test_nothing_odd_in_the_place_of_a_file_of_the_project_stops_anything(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fill(project.root / "tasks" / "buy", "ours")
    for name, content in (("bugninja.toml", f'[project]\nname = "{PLANTED}"\n'), (".env", f"A_TOKEN={PLANTED}\n")):
        (project.root / name).touch()
        (tmp_path / name).write_text(content)
        make_odd(project.root / name, kind, tmp_path / name)
    stack = FakeStack(project)
    with stack.client:
        assert Asker(stack, [PLANTED])("/project").json()["name"] == "project"
        Asker(stack, [PLANTED]).everything("buy")
        Asker(stack, [PLANTED]).lists()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
def test_no_file_that_cannot_be_opened_any_more_stops_anything(
    stack: FakeStack, ask: Asker, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It vanished between two steps, say."""
    folder = stack.settings.tasks_root / "buy"
    fill(folder, "ours")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    for when in ("before anything was read", "after"):
        with monkeypatch.context() as patch:
            patch.setattr(files, "_open", fail)
            ask.everything("buy")
            ask.lists()
        os.utime(place(folder, f"runs/{OVER}/run.json"))
        assert ask(f"/test-runs/{of(OVER, 'buy')}").json()["error_message"] == "ours", when


def test_very_long_names_are_no_fault(stack: FakeStack, ask: Asker) -> None:
    folder = stack.settings.tasks_root / "buy"
    fill(folder, "ours")
    long = "x" * 200
    run_id = RunId("l" * 24)
    (folder / "traversals" / f"traverse_{long}_{run_id}.json").write_bytes(traversal_bytes([PASSED], "SUCCESSFUL"))
    (folder / "screenshots" / f"{long}.png").write_bytes(b"ours")
    assert ask(f"/test-runs/{run_id}").json()["current_state"] == "FINISHED"
    assert ask(f"/tasks/buy/screenshots/{long}.png").content == b"ours"
    for path in (f"/tasks/buy/screenshots/{long * 5}.png", f"/tasks/{'x' * 128}", f"/test-runs/{long * 5}/log"):
        assert ask(path).status_code == 404
    assert run_id in ask.lists()


@pytest.fixture
def odd(stack: FakeStack, tmp_path: Path) -> Callable[[str, str], str]:
    """Makes a task with something odd in one place; returns its name."""

    def make(name: str, kind: str) -> str:
        fill(tmp_path / "outside" / kind, PLANTED)
        fill(stack.settings.tasks_root / kind, "ours")
        make_odd(place(stack.settings.tasks_root / kind, name), kind, place(tmp_path / "outside" / kind, name))
        return kind

    return make


@pytest.mark.parametrize(
    ("kind", "why"),
    [("fifo", "it is no regular file"), ("folder", "it is no regular file"), ("link", "links are not followed")],
)
def test_a_sentence_says_why_something_is_not_read(
    ask: Asker, odd: Callable[[str, str], str], kind: str, why: str
) -> None:
    made = of(MADE, kind)
    odd(TRAVERSAL, kind)
    run = ask(f"/test-runs/{made}").json()
    assert (run["current_state"], run["reason"]) == ("ERROR", "lost")
    assert run["error_message"].endswith(f"its file cannot be used (it cannot be read ({why})).")
    (item,) = [item for item in ask("/test-runs").json()["items"] if item["id"] == made]
    assert item["current_state"] == "ERROR"
    assert ask(f"/test-runs/{made}/log").text == ""


@pytest.mark.parametrize("kind", ["fifo", "link"])
def test_what_is_no_log_is_not_found_with_a_sentence(ask: Asker, odd: Callable[[str, str], str], kind: str) -> None:
    odd(f"runs/{OVER}/cli.log", kind)
    response = ask(f"/test-runs/{of(OVER, kind)}/log")
    assert response.status_code == 404
    assert re.fullmatch(
        r"The log of run 'over\w+' cannot be read \(.*(regular file|not followed)\)\.", response.json()["detail"]
    )
    assert ask(f"/test-runs/{of(OVER, kind)}").json()["failure"]["log_tail"] == []


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_record_is_a_damaged_one(ask: Asker, odd: Callable[[str, str], str], kind: str) -> None:
    odd(f"runs/{OPEN}/run.json", kind)
    run_id = of(OPEN, kind)
    run = ask(f"/test-runs/{run_id}").json()
    assert (run["current_state"], run["reason"]) == ("ERROR", "lost")
    assert "run.json, cannot be used: it cannot be read (" in run["error_message"]
    assert ask(f"/test-runs/{run_id}/rerun", "POST").status_code == 409
    stop = ask(f"/test-runs/{run_id}/stop", "POST")
    assert (stop.status_code, "its folder is not usable" in stop.json()["detail"]) == (507, True)


@pytest.mark.parametrize(("kind", "status"), [("fifo", 422), ("folder", 422), ("link", 404)])
def test_what_is_no_task_file_starts_nothing(
    ask: Asker, odd: Callable[[str, str], str], kind: str, status: int
) -> None:
    odd("task_TASK.toml", kind)
    response = ask(f"/test-runs/execute-configuration/{kind}/{kind}_default", "POST")
    assert (response.status_code, response.json()["detail"][-2:]) == (status, ")." if status == 422 else "d.")


def test_no_run_is_accepted_into_a_folder_elsewhere(ask: Asker, odd: Callable[[str, str], str]) -> None:
    odd("runs", "link")
    response = ask("/test-runs/execute-configuration/link/link_default", "POST")
    assert response.status_code == 507
    assert "tasks/link/runs cannot be written to (links are not followed)" in response.json()["detail"]
