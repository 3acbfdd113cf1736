"""The exit code of each end, and what is said with it."""

import json
import socket
import threading
import time

import pytest

from runner.client import connection
from tests.unit.client.conftest import Command
from tests.unit.client.scripted import BATCH, CUT, DROP, ScriptedRunner, a_batch, a_run, one_run
from tests.waiting import wait_for

PASSED, FAILED, ERROR = "FINISHED", "FAILED", "ERROR"
NO_WORKER = (503, b'{"status": "not ready", "redis": true, "workers": 0, "detail": "No worker is alive."}')


def detail(status: int, text: str) -> tuple[int, bytes]:
    return status, json.dumps({"detail": text}).encode()


@pytest.mark.parametrize(
    ("states", "code"),
    [((PASSED, PASSED), 0), ((PASSED, FAILED), 1), ((ERROR, FAILED), 1), ((PASSED, ERROR), 3)],
)
def test_the_code_is_that_of_the_final_document(
    runner: ScriptedRunner, command: Command, states: tuple[str, str], code: int
) -> None:
    runner.become(a_batch(a_run("login", states[0]), a_run("shop", states[1])))
    assert command("run", "login", "shop").code == code
    assert command("wait", BATCH).code == code
    assert command("watch", BATCH).code == code
    assert command("rerun", BATCH, "--failed").code == code
    assert runner.requests("POST")[-1].path == f"/batches/{BATCH}/rerun?only=failed"


def test_the_code_is_not_what_was_seen_meanwhile(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "FAILED"), a_run("shop", "RUNNING")))
    threading.Timer(0.2, runner.become, [a_batch(a_run("login", PASSED), a_run("shop", PASSED))]).start()
    assert command("run", "login", "shop").code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["run"], ["run", "--all", "login"], ["run", "login", "--tag", "a"], ["run", "--tag", "a,,b"], ["run", "--all", "--mode", "x"],
        ["run", "--all", "--timeout", "soon"], ["run", "--all", "--timeout", "0"], ["run", "--all", "--fail-fast=0"], ["run", "--all", "--label", "x"],
        ["run", "--all", "--detach", "--timeout", "5"], ["run", "--all", "--detach", "--junit", "x"], ["run", "--all", "--token", "x"],
        ["wait"], ["nothing"], ["--url", "ftp://x", "list"], ["--url", "http://u:p@x", "list"], ["--url", "http://x:99999", "list"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2_and_asks_nothing(runner: ScriptedRunner, command: Command, words: list[str]) -> None:
    ended = command(*words)
    assert (ended.code, ended.out) == (2, "")
    assert "Error" in ended.err
    assert not runner.asked


@pytest.mark.parametrize(
    ("status", "code"), [(404, 2), (409, 2), (413, 2), (422, 2), (401, 4), (403, 4), (507, 4), (500, 4)]
)
def test_a_refused_start_is_a_sentence(runner: ScriptedRunner, command: Command, status: int, code: int) -> None:
    runner.always["POST /batches"] = detail(status, "There is no task nothing.")
    ended = command("run", "nothing")
    assert (ended.code, ended.out, ended.err) == (code, "", "There is no task nothing.\n")
    assert len(runner.requests("POST /batches")) == 1


def test_an_unknown_id_is_2(command: Command) -> None:
    for name in ("wait", "watch", "stop", "rerun", "log", "open"):
        assert command(name, "nothing").code == 2
    assert "There is no batch and no run nothing." in command("wait", "nothing").err


def test_a_redirect_is_not_followed(runner: ScriptedRunner, command: Command) -> None:
    runner.always["POST /batches"] = (302, b"")
    ended = command("run", "login")
    assert ended.code == 4
    assert "it leads to http://elsewhere.example/, which is not followed" in ended.err


def test_nothing_is_started_without_a_worker(runner: ScriptedRunner, command: Command) -> None:
    runner.always["GET /ready"] = NO_WORKER
    ended = command("run", "login")
    assert (ended.code, ended.err) == (4, "No worker is alive.\n")
    assert not runner.requests("POST")


def test_runs_that_wait_for_no_worker_are_left(runner: ScriptedRunner, command: Command) -> None:
    runner.next["GET /ready"] = [runner.always["GET /ready"]]
    runner.always["GET /ready"] = NO_WORKER
    ended = command("--stall", "0.3", "run", "login")
    assert ended.code == 4
    assert "Nothing has changed for 0.3 s. No worker is alive." in ended.err
    assert f"bugninja-runner wait {BATCH}" in ended.out
    assert not runner.requests(f"POST /batches/{BATCH}/stop")


@pytest.mark.parametrize(
    "ready", [(200, b'{"redis": true}'), (503, b'{"redis": false, "detail": "Redis does not answer."}'), DROP]
)
def test_runs_that_wait_for_anything_else_are_not(
    runner: ScriptedRunner, command: Command, ready: tuple[int, bytes]
) -> None:
    runner.always["GET /ready"] = ready
    threading.Timer(0.5, runner.become, [a_batch(a_run("login", PASSED))]).start()
    assert command("--stall", "0.1", "wait", BATCH).code == 0
    assert len(runner.requests("GET /ready")) >= 2


def test_a_run_that_executes_needs_no_look_at_the_workers(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "RUNNING")))
    runner.always["GET /ready"] = NO_WORKER
    threading.Timer(0.5, runner.become, [a_batch(a_run("login", PASSED))]).start()
    assert command("--stall", "0.1", "wait", BATCH).code == 0


def test_a_timeout_is_5_and_says_what_goes_on(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", PASSED), a_run("shop", "RUNNING")))
    ended = command("run", "login", "shop", "--timeout", "0.3s", "--junit", "out.xml")
    assert ended.code == 5
    assert "These runs go on: runshop\n" in ended.out
    assert f"\nbugninja-runner wait {BATCH} --url {runner.url}\n" in ended.out
    assert "Not over after 0.3 s." in ended.err
    assert runner.requests(f"GET /batches/{BATCH}/junit.xml")
    assert not runner.requests(f"POST /batches/{BATCH}/stop")


@pytest.mark.parametrize("words", [["run", "login"], ["wait", BATCH], ["list"], ["stop", BATCH]])
def test_a_runner_that_is_never_there_is_4(runner: ScriptedRunner, command: Command, words: list[str]) -> None:
    runner.close()
    begun = time.monotonic()
    ended = command("--patience", "0.2", *words)
    assert ended.code == 4
    assert 0.2 <= time.monotonic() - begun < 10
    assert ended.err.count("Connection refused") == 2  # when it begins, and at the end
    assert "Trying again for 0.2 s." in ended.err


def test_a_runner_that_never_answers_is_4(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        ended = command("--patience", "0.3", "--url", f"http://127.0.0.1:{silent.getsockname()[1]}", "stats")
        assert (ended.code, "timed out" in ended.err) == (4, True)
        assert time.monotonic() - begun < 15


def test_an_id_may_be_anything(command: Command) -> None:
    for name in ("..", "a/b?c#d", "\udcff", "\x1b[1m"):
        assert command("wait", name).code == 2


@pytest.mark.parametrize("fault", [DROP, CUT, (502, b"<html>"), (503, b"{}"), (504, b""), (200, b"<html>")])
def test_a_fault_on_the_way_is_passed_over(runner: ScriptedRunner, command: Command, fault: tuple[int, bytes]) -> None:
    runner.become(a_batch(a_run("login", PASSED)))
    runner.next = {name: [fault, fault] for name in ("POST /batches", f"GET /batches/{BATCH}", "GET /ready")}
    assert command("run", "login").code == 0
    assert command("wait", BATCH).code == 0
    keys = [asked.headers["Idempotency-Key"] for asked in runner.requests("POST /batches")]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_each_success_gives_new_patience(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "RUNNING")))
    name = f"GET /batches/{BATCH}"
    runner.always[f"{name}/events"] = (404, b"")
    good = (200, json.dumps(runner.document).encode())
    over = (200, json.dumps(a_batch(a_run("login", PASSED))).encode())
    runner.next[name] = [*[DROP, DROP, DROP, good] * 6, over]  # each outage takes 0.12 s
    assert command("--patience", "0.4", "wait", BATCH).code == 0


def test_a_runner_that_is_restarted_is_followed_further(runner: ScriptedRunner, command: Command) -> None:
    port = runner.server.server_port
    later: list[ScriptedRunner] = []

    def restart() -> None:
        wait_for(lambda: runner.streaming, 10)
        runner.close()
        time.sleep(0.3)
        later.append(ScriptedRunner(a_batch(a_run("login", FAILED)), port))

    thread = threading.Thread(target=restart)
    thread.start()
    assert command("run", "login").code == 1
    thread.join()
    later[0].close()


def test_a_batch_that_is_suddenly_unknown_is_no_wrong_usage(runner: ScriptedRunner, command: Command) -> None:
    gone = (404, b'{"detail": "There is no batch."}')
    runner.always |= {f"GET /batches/{BATCH}/events": gone, f"GET /batches/{BATCH}": gone}
    assert command("run", "login").code == 4


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"id": "../x", "runs": [], "counts": {}}', b'{"runs": 1}', b"1"])
def test_what_is_no_runner_is_4(runner: ScriptedRunner, command: Command, body: bytes) -> None:
    runner.always["POST /batches"] = (202, body)
    ended = command("run", "login")
    assert (ended.code, ended.err) == (4, "The answer is not that of a runner, or of one with another version.\n")
    for name, path in (("tasks", "/tasks"), ("list", "/batches"), ("stats", "/stats")):
        runner.always[f"GET {path}"] = (200, b"[1]" if name == "stats" else body)
        assert command(name)[::2] == (4, ended.err)


@pytest.mark.parametrize(("state", "code"), [(PASSED, 0), (FAILED, 1), (ERROR, 3)])
def test_a_single_run_is_a_batch_of_one(runner: ScriptedRunner, command: Command, state: str, code: int) -> None:
    failure = {"action": "click", "url": "http://shop.example/cart"}
    runner.become(one_run("RUNNING"))
    ended_run = one_run(state, failure=failure, error_message="No cart", reason="stopped" if code == 3 else None)
    threading.Timer(0.1, runner.become, [ended_run]).start()
    ended = command("wait", "runlogin", "--json")
    assert ended.code == code
    document = json.loads(ended.out)
    assert document["counts"]["stopped" if code == 3 else "failed" if code else "passed"] == 1
    assert document["runs"][0]["task_id"] == "login"
    assert document["runs"][0]["failed_url"] == "http://shop.example/cart"
    assert runner.requests("GET /test-runs/runlogin/events")
    rerun = command("rerun", "runlogin", "--failed", "-q")
    assert rerun.code == (code or 2)
    assert bool(runner.requests("POST /test-runs/runlogin/rerun")) == bool(code)


def test_a_fault_of_the_client_is_no_failed_test(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner.client import looking

    monkeypatch.setattr(looking, "make_api", lambda: 1 // 0)
    assert command("list")[::2] == (
        4,
        "This is a fault of the client: ZeroDivisionError: integer division or modulo by zero\n",
    )


def test_an_answer_that_is_too_deep_is_not_that_of_a_runner(runner: ScriptedRunner, command: Command) -> None:
    runner.always["GET /batches"] = (200, b"[" * 100_000)
    ended = command("--patience", "0.1", "list")
    assert ended.code == 4
    assert ended.err.endswith("\nThe answer is not JSON: is this the address of a runner?\n")


@pytest.mark.parametrize(("limit", "value"), [("LARGEST", 999), ("SLOWEST", -1)])
def test_an_answer_that_does_not_end_is_left(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(connection, limit, value)
    runner.always["GET /batches"] = (200, b" " * 1000)
    ended = command("list")
    assert ended[::2] == (4, "The answer is too long or too slow: is this the address of a runner?\n")
    assert len(runner.requests("GET /batches")) == 1


def test_an_error_is_shown_as_far_as_one_reads(runner: ScriptedRunner, command: Command) -> None:
    runner.always["GET /batches"] = detail(400, "x" * 5000)
    assert command("list").err == "x" * 1000 + "\n"


def test_a_start_that_is_not_answered_in_time_may_have_started_something(
    runner: ScriptedRunner, command: Command
) -> None:
    runner.always["POST /batches"] = DROP
    ended = command("run", "login", "--timeout", "0.3s")
    assert ended.code == 4
    assert ended.err.endswith("The runner has not answered in time: it may have started the tests.\n")


@pytest.mark.parametrize("status", [404, 408, 429, 500, 502])
def test_what_a_proxy_says_is_asked_again(runner: ScriptedRunner, command: Command, status: int) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    runner.next[f"GET /batches/{BATCH}"] = [(status, b"page not found")]
    ended = command("wait", BATCH)
    assert ended.code == 0
    assert f"The runner answered {status}. Trying again" in ended.err


def test_the_address_may_be_that_of_the_calls(runner: ScriptedRunner, command: Command) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    assert f"\n  {runner.url}/ui/batches/{BATCH}\n" in command("--url", f"{runner.url}/api/v1/", "wait", BATCH).out
