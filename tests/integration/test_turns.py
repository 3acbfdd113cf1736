"""One run per task at a time, over several workers, and also when one of them dies."""

import itertools
import os
import signal
import time
from datetime import datetime

from tests.integration.test_runs import child_lives, horse_of
from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

NOTICED = 30  # seconds in which a dead worker has to be noticed


def test_two_workers_execute_runs_of_one_task_one_after_the_other_in_order(project: Project, stack: Stack) -> None:
    stack.line("worker")
    wait_for(lambda: stack.call("GET", "/ready").body["workers"] == 2)
    project.add_task("buy", "visit sleep:0.2 pass")
    project.add_task("sell", "visit wait:go pass")
    ids = [stack.post("buy") for _ in range(4)]
    parallel = stack.post("sell")
    waiting = stack.run(ids[3])["queue"]
    assert waiting is None or (waiting["position"] <= 3 and waiting["waiting_for"] in ids[:3])
    runs = [stack.wait_final(run_id) for run_id in ids]
    assert stack.run(parallel)["current_state"] == "RUNNING", "a run of another task does not wait"
    (project.root / "tasks" / "sell" / "go").touch()
    times = [(datetime.fromisoformat(run["started_at"]), datetime.fromisoformat(run["finished_at"])) for run in runs]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(times))
    assert stack.wait_final(parallel)["current_state"] == "FINISHED"


def test_a_worker_and_its_work_horse_killed_together_do_not_block_the_next_run(project: Project, stack: Stack) -> None:
    folder = project.add_task("buy", "child visit sleep:120")
    dead, waiting = stack.post("buy"), stack.post("buy")
    wait_for(lambda: stack.run(dead)["brain_states"])
    worker = stack.processes[2]
    horse = horse_of(worker)
    os.kill(worker.pid, signal.SIGSTOP)  # so that neither can react to the end of the other
    horse.kill()
    os.kill(worker.pid, signal.SIGKILL)
    killed = time.monotonic()
    (folder / "behaviour").write_text("visit pass")
    stack.line("worker")
    run = stack.wait_final(dead, NOTICED)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "interrupted", 1)
    assert time.monotonic() - killed < NOTICED
    assert not child_lives(folder)
    assert stack.wait_final(waiting)["current_state"] == "FINISHED"
    assert stack.run(dead) == run
    assert not stack.processes_with("BUGNINJA_RUN_ID", dead)


def test_a_work_horse_that_only_is_slow_is_left_alone(project: Project, stack: Stack) -> None:
    project.add_task("buy", "visit wait:go pass")
    run_id = stack.post("buy")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    horse = horse_of(stack.processes[2])
    horse.suspend()
    stopped = time.monotonic()
    (project.root / "tasks" / "buy" / "go").touch()
    wait_for(lambda: time.monotonic() - stopped > 14 or stack.run(run_id)["current_state"] != "RUNNING", 20)
    assert stack.run(run_id)["current_state"] == "RUNNING"
    horse.resume()
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"
