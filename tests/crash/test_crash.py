"""Web, worker, work-horse and the prune command are killed at every step that they do: no run is lost or told wrong.

The rows are made from the list in `points.txt`, and one test per scenario sees that the list is complete. `make test`
takes a few rows of the matrix, with a worker that looks for dead ones more often; `make soak` takes the same rows with
the worker's own times (CRASH_FACTOR=1), and then all rows (CRASH_ALL=1).
"""

import json
import os
import time
from collections.abc import Callable

import pytest
from redis.exceptions import RedisError
from rq import rate_limit

from tests.crash.arena import TASK, Arena, process_of
from tests.crash.points import Row, known_points, parse_point, write_points
from tests.crash.scenarios import PASSES, SCENARIOS, STRANGER, Scenario, all_rows
from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

FACTOR = float(os.environ.get("CRASH_FACTOR", "4"))  # by which the worker's times are shortened
SHORT = 10  # rows in `make test`
SECONDS = 30.0  # in which a living worker brings a run to its end
FILE_STATES = {"SUCCESSFUL": "FINISHED", "FAILED": "FAILED"}


def chosen_rows() -> list[Row]:
    rows = all_rows()
    return rows if os.environ.get("CRASH_ALL") else rows[:: max(1, len(rows) // SHORT)]


@pytest.fixture
def new_arena(project: Project, new_stack: Callable[..., Stack]) -> Callable[[Scenario], Arena]:
    def make(scenario: Scenario) -> Arena:
        project.add_task(TASK, scenario.behaviour, replay="note:began visit pass note:passed")
        return Arena(project, new_stack(**scenario.environ), FACTOR)

    return make


def begin(arena: Arena) -> None:
    arena.start("redis")
    wait_for(lambda: answers(arena.stack), 40, f"Redis in {arena.stack.folder}")
    load_scripts(arena.stack)
    arena.start("web")
    arena.start("worker")
    arena.stack.wait_ready()


def answers(stack: Stack) -> bool:
    try:
        return bool(stack.redis.ping())
    except RedisError:  # it is just starting
        return False


def load_scripts(stack: Stack) -> None:
    """So that the first one who needs a script does not have to send it: who that is would change the list."""
    for name, text in vars(rate_limit).items():
        if name.endswith("_SCRIPT"):
            stack.redis.script_load(text)


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if scenario.source is None])
def test_all_steps_are_known(name: str, new_arena: Callable[[Scenario], Arena]) -> None:
    """A step that is not in `points.txt` would never be killed: `CRASH_RECORD=1 pytest tests/crash -k known` adds it."""
    scenario = SCENARIOS[name]
    arena = new_arena(scenario)
    scenario.first(arena)
    for process in dict.fromkeys(process_of(kind) for kind in scenario.kinds):
        arena.record(process)
    begin(arena)
    scenario.prepare(arena)
    arena.arm()
    scenario.act(arena)
    if not arena.accepted:
        (run_id,) = wait_for(arena.run_ids)
        arena.accepted.append(run_id)
    scenario.finish(arena)
    for run_id in arena.run_ids():
        arena.wait_outcome(run_id, 60)
    arena.wait_idle(rounds=2 if "recovery" in scenario.kinds else 0)
    arena.end()
    points = [parse_point(f"{name}: {line}") for line in arena.noted(scenario.kinds)]
    if os.environ.get("CRASH_RECORD"):
        write_points(name, points)
    assert points
    known = {(point.kind, point.name) for point in known_points()}
    assert [point for point in points if (point.kind, point.name) not in known] == []


@pytest.mark.parametrize("row", chosen_rows(), ids=str)
def test_killed_at_a_step(
    row: Row, new_arena: Callable[[Scenario], Arena], record_property: Callable[..., None]
) -> None:
    scenario = SCENARIOS[row.point.scenario]
    arena = new_arena(scenario)
    scenario.first(arena)
    arena.kill_at(row.point, row.victim)
    begin(arena)
    scenario.prepare(arena)
    arena.arm()
    scenario.act(arena)
    death = arena.wait_death()
    arena.revive()
    alive = max(death, arena.worker_started)
    scenario.after(arena)
    runs = arena.run_ids()
    assert set(arena.accepted) <= set(runs), "all that was accepted is there"
    assert len(runs) <= len(arena.accepted) + arena.unanswered
    ends = {run_id: arena.wait_outcome(run_id, SECONDS) for run_id in runs}
    seconds = time.monotonic() - alive
    arena.go()
    (arena.task / "behaviour").write_text(PASSES)
    arena.start_run()
    last = arena.stack.wait_final(arena.accepted[-1], SECONDS)
    record_property("row", str(row))
    record_property("state", " ".join(f"{end['state']}/{end['reason'] or ''}" for end in ends.values()))
    record_property("seconds", seconds)
    record_property("next", time.monotonic() - alive)
    assert seconds < SECONDS
    assert last["current_state"] == "FINISHED", "the next run of the task"
    check_truth(arena, ends)
    wait_for(lambda: not arena.unfinished(), 60, f"the deletion of {arena.unfinished()}")


def check_truth(arena: Arena, ends: dict[str, dict[str, object]]) -> None:
    told = arena.told()
    for run_id, end in ends.items():
        assert arena.outcome(run_id) == end, "a final state never changes"
        document = arena.stack.run(run_id)
        assert (document["current_state"], document["reason"]) == (end["state"], end["reason"])
        assert told.count((run_id, "began")) <= 1, "no CLI is started twice"
        assert end["state"] == expected_state(arena, run_id), f"the truth about {run_id} in {arena.stack.folder}"
        if end["state"] == "ERROR":
            assert end["reason"] in ("stopped", "interrupted"), end
    known = {*arena.run_ids(), *arena.pruned, STRANGER}
    assert {run_id for run_id, _ in told} <= known, "what was refused never runs"
    assert not [process for run_id in known for process in arena.stack.processes_with("BUGNINJA_RUN_ID", run_id)]
    listed = arena.stack.call("GET", "/test-runs?page_size=200").body
    by_hand = [path for path in arena.project.traversals(TASK) if STRANGER in path.name and not adopted_by(arena)]
    assert listed["total_count"] == len(arena.run_ids()) + len(by_hand)


def expected_state(arena: Arena, run_id: str) -> str:
    """What the run's own file says, or the one that it has adopted; one whose files are pruned had passed."""
    if run_id in arena.pruned:
        return "FINISHED"
    file_id = STRANGER if adopted_by(arena) == run_id else run_id
    files = list((arena.task / "traversals").glob(f"traverse_*_{file_id}.json"))
    status = json.loads(files[0].read_bytes())["status"] if files else None
    return FILE_STATES.get(str(status), "ERROR")


def adopted_by(arena: Arena) -> str | None:
    """The run that has adopted the file that a CLI wrote under an ID of its own."""
    link = arena.task / "runs" / ".adopted" / STRANGER
    return str(link.readlink()) if link.is_symlink() else None
