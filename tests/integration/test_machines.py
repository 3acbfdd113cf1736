"""Machines that die in part: a run's turn is kept until its processes are gone, or its machine has been silent."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.other_machine import QUICK, new_machine
from tests.project import Project
from tests.stack import Stack, work_horses
from tests.waiting import first, wait_for
from tests.watching import check_it_stays, living_workers, notes

SILENT_SECONDS = 7  # of `QUICK`


def can_unshare() -> bool:
    """Whether this user may make PID namespaces (as root on Linux)."""
    unshare = shutil.which("unshare")
    if unshare is None or shutil.which("nsenter") is None:
        return False
    return subprocess.run([unshare, "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0


def kill_worker_and_horse(worker: psutil.Process) -> None:
    """Both at once; what the horse has started lives on."""
    (horse,) = work_horses(worker.pid)
    worker.suspend()
    horse.kill()
    worker.kill()
    psutil.wait_procs([worker], 5)


class Lost:
    """A run of a task, one that waits behind it, and a dead worker whose CLI lives on."""

    def __init__(self, project: Project, base: Stack, away: Stack, here: Stack) -> None:
        self.project, self.base, self.away, self.here = project, base, away, here
        self.folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
        worker = away.line("worker")
        base.wait_ready()
        self.lost = base.post("slow")
        wait_for(lambda: base.run(self.lost)["brain_states"])
        here.line("worker")
        wait_for(lambda: living_workers(base) == 2, 30)
        self.behind = base.post("slow")
        kill_worker_and_horse(psutil.Process(worker.pid))
        worker.wait(5)
        document = base.wait_final(self.lost, 30)
        assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")
        self.closed = time.monotonic()
        assert self.cli(), "the CLI lives on"
        check_it_stays(base, self.lost, document)

    def cli(self) -> list[psutil.Process]:
        return self.away.processes_with("BUGNINJA_RUN_ID", self.lost)

    def check_next_runs(self) -> None:
        (self.folder / "go").touch()
        assert self.base.wait_final(self.behind)["current_state"] == "FINISHED"
        assert self.base.run(self.lost)["reason"] == "interrupted"


def test_a_new_worker_of_the_machine_ends_the_cli_before_the_next_run(
    project: Project, base: Stack, new_stack: Callable[..., Stack]
) -> None:
    patient = {**QUICK, "jobs.worker.sweep.SILENT_SECONDS": 60}
    away = new_machine(new_stack, base, "away", constants=patient)
    lost = Lost(project, base, away, new_machine(new_stack, base, "here"))
    assert base.run(lost.behind)["queue"] == {"position": 1, "waiting_for": lost.lost}
    lost.away.line("worker")
    wait_for(lambda: base.run(lost.behind)["current_state"] == "RUNNING", 30, "the next run")
    assert not lost.cli()
    lost.check_next_runs()
    assert notes(project, "slow") == [f"{lost.lost} began", f"{lost.behind} began", f"{lost.behind} ended"]


def test_the_next_run_starts_when_the_machine_has_been_silent(
    project: Project, base: Stack, new_stack: Callable[..., Stack]
) -> None:
    lost = Lost(project, base, new_machine(new_stack, base, "away"), new_machine(new_stack, base, "here"))
    wait_for(lambda: base.run(lost.behind)["current_state"] == "RUNNING", SILENT_SECONDS + 30, "the next run")
    assert time.monotonic() - lost.closed < SILENT_SECONDS + 10
    lost.check_next_runs()


@pytest.mark.skipif(not can_unshare(), reason="PID namespaces may not be made here")
def test_machines_that_are_pid_namespaces(project: Project, base: Stack, new_stack: Callable[..., Stack]) -> None:
    """As two containers: real namespaces, real constants."""
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    away, here = new_stack(), new_stack()
    procfile_line = 'exec rq worker --url "$REDIS_URL" --connection-class jobs.queue.connection.PatientRedis'
    procfile_line += " --worker-class jobs.worker.worker.RunWorker --serializer json bugninja"
    holders = {}
    for machine in (away, here):
        machine.environ["REDIS_URL"] = base.environ["REDIS_URL"]
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "sleep 600 & wait"]
        holder = machine.start(*command, log="holder.log")
        holders[machine] = wait_for(lambda holder=holder: psutil.Process(holder.pid).children(), 10)[0].pid  # type: ignore[misc]

    def start_worker(machine: Stack) -> None:
        enter = ["nsenter", "--target", str(holders[machine]), "--pid", "--mount"]
        machine.start(*enter, "sh", "-c", procfile_line, log="worker.log")

    def workers_in(machine: Stack) -> list[psutil.Process]:
        return [p for p in machine.processes_with("HOME", str(machine.folder)) if "rq" in " ".join(p.cmdline())]

    start_worker(away)
    base.wait_ready()
    lost = base.post("slow")
    wait_for(lambda: base.run(lost)["brain_states"])
    start_worker(here)
    wait_for(lambda: living_workers(base) == 2, 30)
    behind = base.post("slow")
    dying = workers_in(away)
    for process in dying:
        process.suspend()
    for process in dying:
        process.kill()
    psutil.wait_procs(dying, 5)
    assert base.wait_final(lost, 40)["reason"] == "interrupted"
    record = next(project.root.glob(f"tasks/slow/runs/{lost}/run.json")).read_text()
    assert str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]") not in record
    cli = away.processes_with("BUGNINJA_RUN_ID", lost)
    assert cli, "the CLI lives on"
    assert base.run(behind)["current_state"] == "PENDING"
    start_worker(away)
    wait_for(lambda: base.run(behind)["current_state"] == "RUNNING", 40, "the next run")
    assert not away.processes_with("BUGNINJA_RUN_ID", lost)
    (folder / "go").touch()
    assert base.wait_final(behind)["current_state"] == "FINISHED"
    assert notes(project, "slow") == [f"{lost} began", f"{behind} began", f"{behind} ended"]


@pytest.mark.parametrize("expired", first([True, False]))
def test_worker_and_horse_killed_before_rq_says_that_the_job_is_started(
    project: Project, base: Stack, new_stack: Callable[..., Stack], expired: bool
) -> None:
    """RQ's execution is there, the record is claimed, and the job is still queued for RQ. It may expire, too."""
    project.add_task("slow", "note:began visit pass")
    machine = new_machine(new_stack, base, "here")
    worker = psutil.Process(machine.line("worker").pid)
    base.wait_ready()
    run_id = base.post("slow")
    behind = base.post("slow")

    def has_execution() -> bool:
        if base.redis.keys(f"rq:execution:{run_id}:*"):
            for process in [worker, *worker.children()]:
                process.kill()
            return True
        return False

    wait_for(has_execution, 20, step=0.0)
    machine.processes[0].wait(5)
    wait_for(lambda: not machine.processes_with("HOME", str(machine.folder)), 20)
    base.redis.hset(f"rq:job:{run_id}", "status", "queued")  # where this was too slow
    if expired:
        base.redis.delete("none", *base.redis.keys(f"rq:execution:{run_id}:*"))
    died = time.monotonic()
    healthy = [machine.line("worker"), machine.line("worker")]
    document = base.wait_final(run_id, 30)
    assert time.monotonic() - died < 30
    assert document["current_state"] == "ERROR"
    assert base.wait_final(behind, 30)["current_state"] == "FINISHED"
    assert base.run(run_id) == document
    wait_for(lambda: not base.redis.zcard("rq:wip:bugninja"), 20, "nothing left that RQ counts as started")
    assert all(process.poll() is None for process in healthy)
    wait_for(lambda: living_workers(base) == 2, 20)
    last = base.post("slow")
    assert base.wait_final(last)["current_state"] == "FINISHED"
    said = machine.log("worker")
    assert "recovery_failed" not in said
    assert "Traceback" not in said
