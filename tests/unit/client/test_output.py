"""What is printed and written: progress, results, reports, and texts that want to do harm."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from runner.client.lines import Lines, clean, clean_lines, duration_text
from tests.unit.client.conftest import Command
from tests.unit.client.scripted import BATCH, DROP, ScriptedRunner, a_batch, a_run
from tests.waiting import wait_for

HOSTILE = "a\x1b[31mred\x1b]0;title\x07 [bold]b[/bold]\r\n::error::x\x9b2J \u202eevil ##[add-path]x"
HARMLESS = "ared [bold]b[/bold] ::error::x evil # #[add-path]x"
JUNIT, CTRF, HTML = (f"GET /batches/{BATCH}/{name}" for name in ("junit.xml", "ctrf.json", "report.html"))


def failed(**more: str) -> dict[str, object]:
    return a_batch(a_run("login", "FAILED", **more), a_run("shop", "FINISHED"))


def test_the_summary_says_what_did_not_pass_and_why(runner: ScriptedRunner, command: Command) -> None:
    runner.become(failed(message="No cart.", failed_action="click", failed_url="/cart"))
    ended = command("run", "login", "shop", "-q")
    page = f"{runner.url}/ui"
    assert ended.err == ""
    assert ended.out == (
        f"FAILED login\n  No cart.\n  in click at /cart\n  {page}/runs/runlogin\n"
        f"FAILED after 4.2 s: 1 passed, 1 failed\n  {page}/batches/{BATCH}\n"
    )


def test_a_pipe_gets_a_line_for_each_change(runner: ScriptedRunner, command: Command) -> None:
    threading.Timer(0.2, runner.become, [a_batch(a_run("login", "RUNNING"), a_run("shop"))]).start()
    threading.Timer(0.4, runner.become, [failed(message="No cart.")]).start()
    ended = command("--every", "0.15", "run", "login", "shop")
    lines = [line.partition("] ")[2] for line in ended.err.splitlines() if "2 runs: " not in line]
    assert lines == [
        f"Started {BATCH}: 2 runs, {runner.url}/ui/batches/{BATCH}",
        "login running", "login failed after 3.1 s: No cart.", "shop passed after 3.1 s",
    ]  # fmt: skip
    assert "2 runs: 1 waiting, 1 running" in ended.err
    assert not runner.requests("GET /stats")


def test_a_summary_line_comes_from_time_to_time(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    from runner.client.batches import as_batch

    now = [0.0]
    lines = Lines(sys.stdout, 30.0, lambda: now[0])
    lines.tick()
    lines.show(as_batch("batches", a_batch(a_run("login", "RUNNING"), a_run("shop"))))
    for now[0] in (29.0, 30.0, 31.0, 65.0):
        lines.tick()
    out = capsys.readouterr().out
    assert out == "[00:00] login running\n[00:30] 2 runs: 1 waiting, 1 running\n[01:05] 2 runs: 1 waiting, 1 running\n"


def test_json_is_the_document_alone(runner: ScriptedRunner, command: Command) -> None:
    runner.become(failed(message=HOSTILE))
    ended = command("run", "login", "shop", "--json")
    assert json.loads(ended.out) == runner.document
    assert ended.out.count("\n") == 1
    assert "##" not in ended.out
    assert "\x1b" not in ended.out + ended.err
    assert f"Started {BATCH}" in ended.err
    runner.become(a_batch(a_run("login")))
    late = command("wait", BATCH, "--json", "--timeout", "0.1")
    assert json.loads(late.out)["current_state"] == "PENDING"
    assert f"bugninja-runner wait {BATCH}" in late.err


def test_foreign_texts_are_made_harmless(runner: ScriptedRunner, command: Command) -> None:
    runner.become(
        a_batch(a_run("login", "FAILED", task_id=HOSTILE, message=HOSTILE, failed_action=HOSTILE, failed_url=HOSTILE))
    )
    ended = command("run", "login")
    assert ended.out.count(HARMLESS) == 4
    assert ended.err.count(HARMLESS) == 2
    assert all(character.isprintable() or character == "\n" for character in ended.out + ended.err)
    runner.become(a_batch(a_run("login", "ERROR", message="\x9b2J ::error::x ##vso[a]b")))
    assert "\n  : :error::x # #vso[a]b\n" in command("wait", BATCH).out
    runner.always["POST /batches"] = (422, json.dumps({"detail": HOSTILE}).encode())
    assert command("run", "login").err == f"{HARMLESS}\n"


def test_texts_of_many_lines_are_no_commands_of_a_ci() -> None:
    assert clean_lines("a\tb\n ::set-env::x\n##[x]\x1b[1mc\x07d :: e") == "a\tb\n : :set-env::x\n# #[x]c d :: e"
    assert clean("\x1bPq\x1b\\x\x1b") == "x"
    assert [duration_text(seconds) for seconds in (0, 59.94, 60, 245.9, 3905)] == [
        "0.0 s",
        "59.9 s",
        "1:00",
        "4:05",
        "1:05:05",
    ]


def test_reports_are_written_whole_into_new_folders(runner: ScriptedRunner, command: Command) -> None:
    runner.become(failed())
    runner.always |= {JUNIT: (200, b"<x/>"), CTRF: (200, b"{}"), HTML: (200, b"<html>")}
    log, picture = "GET /test-runs/runlogin/log", "GET /tasks/login/screenshots/a%20b.png"
    card = json.dumps({"failure": {"screenshot": "tasks/login/screenshots/a b.png"}}).encode()
    runner.always |= {"GET /test-runs/runlogin": (200, card), log: (200, b"log"), picture: (200, b"PNG")}
    words = ["--junit", "new/out.xml", "--ctrf", "new/out.json", "--html", "out.html", "--artifacts", "the pictures"]
    assert command("wait", BATCH, *words).code == 1
    assert runner.requests("GET /batches")[-3].path == f"/batches/{BATCH}/junit.xml?artifacts=the+pictures"
    found = {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert found == {
        "new/out.xml": b"<x/>", "new/out.json": b"{}", "out.html": b"<html>",
        "the pictures/runlogin.png": b"PNG", "the pictures/runlogin.log": b"log",
    }  # fmt: skip


def test_what_a_run_does_not_have_is_left_out(runner: ScriptedRunner, command: Command) -> None:
    runner.become(failed())
    runner.always["GET /test-runs/runlogin"] = (200, b'{"failure": {"screenshot": null}}')
    ended = command("wait", BATCH, "--artifacts", "pictures")
    assert (ended.code, "cannot" in ended.err) == (1, False)
    assert not Path("pictures").exists()


@pytest.mark.parametrize(("state", "code"), [("FINISHED", 4), ("FAILED", 1)])
def test_a_report_that_cannot_be_written_is_an_error(
    runner: ScriptedRunner, command: Command, state: str, code: int
) -> None:
    Path("a_file").write_text("kept")
    runner.become(a_batch(a_run("login", state)))
    runner.always |= {JUNIT: (200, b"<x/>"), HTML: (404, b'{"detail": "There is no report."}')}
    ended = command("wait", BATCH, "--junit", "a_file/out.xml", "--html", "out.html")
    assert ended.code == code
    assert "a_file/out.xml cannot be written: " in ended.err
    assert "out.html cannot be written: There is no report." in ended.err
    assert [path.name for path in Path().iterdir()] == ["a_file"]


def test_a_report_may_be_a_pipe(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    runner.always[JUNIT] = (200, b"<x/>")
    assert command("wait", BATCH, "--junit", "/dev/null").code == 0
    assert Path("/dev/null").is_char_device()


def test_a_report_into_a_link_goes_to_its_file(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    runner.always[JUNIT] = (200, b"<x/>")
    Path("file.xml").write_text("<older and longer/>")
    Path("link.xml").symlink_to("file.xml")
    assert command("wait", BATCH, "--junit", "link.xml").code == 0
    assert Path("link.xml").is_symlink()
    assert Path("file.xml").read_text() == "<x/>"


def test_a_server_that_went_away_is_not_waited_for_at_each_report(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(*(a_run(f"task{n}", "FAILED") for n in range(50))))
    runner.always |= {f"GET /test-runs/runtask{n}": DROP for n in range(50)} | {JUNIT: DROP, HTML: DROP}
    ended = command(
        "--patience", "0.2", "wait", BATCH, "--junit", "a.xml", "--html", "a.html", "--artifacts", "pictures"
    )
    assert ended.code == 1
    assert len(runner.requests("GET /batches/" + BATCH + "/report.html")) == 1
    assert len(runner.requests("GET /test-runs/")) == 1
    assert ended.err.count("cannot be written") == 3


def test_the_line_that_waits_fits_to_how_it_was_called(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.client.options import called

    Path("the token").write_text("secret-token")
    ended = command("--token-file", "the token", "run", "login", "--detach")
    assert ended.err.splitlines()[-1] == f"bugninja-runner wait {BATCH} --url {runner.url} --token-file 'the token'"
    monkeypatch.setattr("sys.argv", ["./runner.pyz"])
    assert called() == ["python3", "./runner.pyz"]
    monkeypatch.setattr("sys.argv", ["/x/runner/client/__main__.py"])
    assert called() == ["python", "-m", "runner.client"]


def test_the_result_comes_at_once(runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from runner.client import main

    printed: list[float] = []
    show = main.show_result

    def noted(*words: Any) -> None:
        printed.append(time.monotonic())
        show(*words)

    monkeypatch.setattr(main, "show_result", noted)
    for path in ("events", "nothing"):
        runner.become(a_batch(a_run("login", "RUNNING")))
        if path == "nothing":
            runner.always[f"GET /batches/{BATCH}/events"] = DROP
        threading.Timer(0.5, runner.become, [a_batch(a_run("login", "FINISHED"))]).start()
        assert command("run", "login").code == 0
        assert printed[-1] - runner.over_at < 2
    assert len(runner.requests(f"GET /batches/{BATCH}?wait=")) == 1


def test_github_is_told_what_did_not_pass(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.client import main

    told: list[object] = []
    monkeypatch.setattr(main, "is_on", lambda mode, environ: mode == "on")
    monkeypatch.setattr(main, "report", lambda *words: told.append(words[:3]))
    monkeypatch.setattr(main, "labels_of", lambda environ: {"branch": "main", "job": "1"})
    monkeypatch.setattr(main, "idempotency_key", lambda environ, request: f"job-{len(request)}")
    runner.become(failed())
    runner.always["GET /test-runs/runlogin"] = (200, b'{"id": "runlogin"}')
    runner.always["POST /batches"] = (200, json.dumps(runner.document).encode())
    ended = command("run", "login", "--github", "on", "--label", "branch=next", "--label", "a=b=c")
    assert told == [(runner.document, [{"id": "runlogin"}], f"{runner.url}/ui/batches/{BATCH}")]
    assert f"This was requested before; it is {BATCH}" in ended.err
    (asked,) = runner.requests("POST /batches")
    assert asked.headers["Idempotency-Key"].startswith("job-")
    assert asked.json["labels"] == {"branch": "next", "job": "1", "a": "b=c"}
    command("run", "login")
    assert len(told) == 1


def test_the_request_is_what_was_asked_for(runner: ScriptedRunner, command: Command) -> None:
    ended = command(
        "run", "--tag", "smoke, shop", "--tag", "login", "--fail-fast", "--detach", "--mode", "heal", "--name", "N"
    )
    assert (ended.code, ended.out, ended.err.splitlines()[-1]) == (
        0,
        f"{BATCH}\n",
        f"bugninja-runner wait {BATCH} --url {runner.url}",
    )
    assert runner.requests("POST")[0].json == {
        "tags": [["smoke", "shop"], ["login"]], "fail_fast": 1, "mode": "heal", "name": "N", "labels": {},
    }  # fmt: skip
    command("run", "--fail-fast=3", "--all", "--detach")
    assert runner.requests("POST")[1].json == {
        "all": True, "fail_fast": 3, "mode": "agentic", "name": "", "labels": {}
    }  # fmt: skip
    ended = command("--url", runner.url, "run", "--fail-fast", "login", "--detach", "--json")
    assert runner.requests("POST")[2].json["tasks"] == ["login"]
    assert json.loads(ended.out) == runner.document
    assert f"bugninja-runner wait {BATCH} --url {runner.url}" in ended.err
    keys = {asked.headers["Idempotency-Key"] for asked in runner.requests("POST")}
    assert len(keys) == 3
    command("rerun", BATCH, "--detach", "--label", "a=b")
    assert runner.requests("POST")[3].json == {"labels": {"a": "b"}}
    assert runner.requests("POST")[3].path == f"/batches/{BATCH}/rerun"


def test_the_token_is_sent_and_never_shown(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("token").write_text("from-a-file\n")
    monkeypatch.setenv("BUGNINJA_RUNNER_TOKEN", "from-environment")
    runner.always["GET /stats"] = (401, b'{"detail": "The token is wrong."}')
    ended = command("stats")
    assert (ended.code, ended.err) == (4, "The token is wrong.\n")
    command("stats", "--token-file", "token")
    assert [asked.headers["Authorization"] for asked in runner.asked] == [
        "Bearer from-environment",
        "Bearer from-a-file",
    ]
    for wrong in ("geheim\r\nX: y", "geheim\u00e4"):
        monkeypatch.setenv("BUGNINJA_RUNNER_TOKEN", wrong)
        ended = command("stats")
        assert ended.code == 2
        assert "geheim" not in ended.out + ended.err
    assert len(runner.asked) == 2


def test_a_runner_may_be_below_a_path(runner: ScriptedRunner, command: Command) -> None:
    command("stats", "--url", f"{runner.url}/runner/")
    assert runner.asked[0].path == "/runner/stats?sort=health"
    assert wait_for(lambda: runner.asked)[0].headers["Host"] == runner.url.removeprefix("http://")


def test_in_gitlab_the_junit_file_is_as_gitlab_reads_it(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITLAB_CI", "true")
    runner.become(failed())
    runner.always |= {f"{JUNIT}": (200, b"<x/>")}
    assert command("wait", BATCH, "--junit", "out.xml").code == 1
    assert runner.requests("GET /batches")[-1].path == f"/batches/{BATCH}/junit.xml?dialect=gitlab"


def test_github_takes_no_commands_from_what_tests_say(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    runner.become(failed(message=HOSTILE))
    runner.always |= {"GET /test-runs/runlogin": (200, json.dumps({"id": "runlogin"}).encode())}
    lines = command("run", "login", "shop").err.splitlines()
    word = lines[0].removeprefix("::stop-commands::")
    assert len(word) == 32
    end = lines.index(f"::{word}::")
    assert [line for line in lines[1:end] if line.startswith("::")] == []
    assert [line.partition(" ")[0] for line in lines[end + 1 :]] == ["::error"]
    assert "stop-commands" not in command("run", "login", "shop", "--github", "off").err
