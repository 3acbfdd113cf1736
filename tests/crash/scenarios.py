"""What is under way when a process is killed. Each scenario has a client, who does what a client would do then."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from tests.crash.arena import TASK, Arena
from tests.crash.points import VICTIMS, Point, Row, known_points
from tests.crash.watcher import LOOK
from tests.stack import work_horses
from tests.waiting import wait_for

PASSES = "note:began visit pass note:passed"
WAITS = "note:began visit wait:go pass note:passed"
STRANGER = "stranger0stranger0strang"  # the ID in the name of a file that a CLI writes without ours


class Scenario:
    """The base: a run that passes, and another one behind it."""

    kinds: tuple[str, ...] = ()
    """Whose steps are looked at."""
    source: str | None = None
    """The scenario with the same steps, if there is one: then the list has them under that name only."""
    behaviour = PASSES
    environ: Mapping[str, str] = MappingProxyType({})
    keeps = ""
    """How the names of the steps begin that are looked at."""
    victims: tuple[str, ...] = ("horse", "both")
    """Who is killed at the steps of a work-horse."""

    def first(self, arena: Arena) -> None:
        """Orders for processes that die before the scenario itself, which is about what happens then."""

    def prepare(self, arena: Arena) -> None:
        """What happens before."""

    def act(self, arena: Arena) -> None:
        """What happens when steps count."""
        arena.start_run()

    def finish(self, arena: Arena) -> None:
        """What lets all runs end when nobody has died."""

    def after(self, arena: Arena) -> None:
        """What the client does when the dead are alive again."""

    @property
    def name(self) -> str:
        return type(self).__name__


class Pass(Scenario):
    """A run is accepted, starts, leaves a process behind and passes, and another one follows."""

    kinds: tuple[str, ...] = ("web", "worker", "horse")
    victims = ("horse", "worker", "both")
    behaviour = "note:began child visit wait:go pass note:passed"

    def act(self, arena: Arena) -> None:
        arena.start_run()
        if arena.accepted:
            arena.wait_recorded(arena.accepted[0])
        arena.go()

    def after(self, arena: Arena) -> None:
        arena.start_run()


class Fail(Pass):
    """The test finds a fault."""

    kinds: tuple[str, ...] = ("horse",)
    source = "Pass"
    behaviour = "note:began child deaf visit wait:go fail note:failed"
    keeps = "re"  # what it removes, renames, and sends to Redis


class AcceptOnce(Scenario):
    """With an Idempotency-Key: the client sends the request again, and there is one run."""

    kinds: tuple[str, ...] = ("web",)
    source = "Pass"

    def act(self, arena: Arena) -> None:
        arena.start_run(**{"Idempotency-Key": "once"})

    def after(self, arena: Arena) -> None:
        arena.unanswered = 0
        assert arena.start_run(**{"Idempotency-Key": "once"}).status in (200, 202)
        assert arena.run_ids() == sorted({*arena.accepted}), "one run"


class Batch(Scenario):
    """A batch is accepted, and when its run is over, so is the batch."""

    kinds: tuple[str, ...] = ("web", "recovery")

    def act(self, arena: Arena) -> None:
        arena.start_batch()

    def after(self, arena: Arena) -> None:
        records = [path for path in arena.batches() if path.suffix == ".json"]
        assert len(records) == len(arena.run_ids()) or any(path.suffix == ".accepting" for path in arena.batches())
        wait_for(lambda: all(path.suffix == ".json" for path in arena.batches()), 40, "the end of the batch")
        for path in arena.batches():
            batch = json.loads(path.read_bytes())
            assert (
                [line["id"] for line in batch["lines"]] == [run["run_id"] for run in batch["runs"]] == arena.run_ids()
            )
            document = arena.stack.call("GET", f"/batches/{batch['batch_id']}").body
            assert document["current_state"] == arena.wait_outcome(batch["runs"][0]["run_id"], 1)["state"]


class Replay(Scenario):
    kinds: tuple[str, ...] = ("web",)

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.stack.wait_final(arena.accepted[0])

    def act(self, arena: Arena) -> None:
        arena.post(f"/test-runs/replay-run/{arena.accepted[0]}")


class StopWaiting(Scenario):
    """A run that waits for another one is stopped."""

    kinds: tuple[str, ...] = ("web",)
    behaviour = WAITS
    waiting = 1

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_recorded(arena.accepted[0])
        for _ in range(self.waiting):
            arena.start_run()

    def act(self, arena: Arena) -> None:
        arena.stack.call("POST", f"/test-runs/{arena.accepted[-1]}/stop")

    def finish(self, arena: Arena) -> None:
        if self.waiting:
            arena.go()

    def after(self, arena: Arena) -> None:
        answer = arena.stack.call("POST", f"/test-runs/{arena.accepted[-1]}/stop")
        assert answer.status in (200, 202, 409), answer
        run = arena.wait_outcome(arena.accepted[-1], 30)
        assert (run["state"], run["reason"]) == ("ERROR", "stopped"), run
        arena.go()


class StopRunning(StopWaiting):
    """A run whose CLI does not hear is stopped, and leaves a child."""

    kinds: tuple[str, ...] = ("web", "horse")
    behaviour = "note:began child deaf visit wait:go pass note:passed"
    environ = MappingProxyType({"STOP_GRACE": "1"})
    waiting = 0


class Prune(Scenario):
    """The command deletes the files of the older one of two runs."""

    kinds: tuple[str, ...] = ("prune",)
    environ = MappingProxyType({"RUNS_KEEP": "1"})

    def prepare(self, arena: Arena) -> None:
        for _ in range(2):
            arena.start_run()
            arena.stack.wait_final(arena.accepted[-1])
            folder = arena.project.root / "tasks" / TASK / "screenshots" / arena.accepted[-1]
            folder.mkdir(parents=True)
            (folder / "001.png").touch()

    def act(self, arena: Arena) -> None:
        arena.prune()

    def after(self, arena: Arena) -> None:
        pruned = arena.accepted[0]
        arena.pruned.append(pruned)
        assert arena.prune() == 0
        document = arena.stack.call("GET", f"/test-runs/{pruned}").body
        assert (document["current_state"], document["artifacts"]) == ("FINISHED", "pruned")
        assert not arena.stack.redis.exists(f"rq:job:{pruned}")
        left = [path for path in arena.task.rglob("*") if pruned in str(path) and path.is_file()]
        assert left == [arena.task / "runs" / pruned / "run.json"], left


class AdoptEarly(Scenario):
    """The CLI prints the name of its file, which has another ID, and goes on."""

    kinds: tuple[str, ...] = ("horse",)
    behaviour = f"note:began other-id:{STRANGER} visit wait:armed name-file wait:go pass"

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_visited(STRANGER)
        (arena.task / "behaviour").write_text(PASSES)

    def act(self, arena: Arena) -> None:
        arena.wait_recorded(arena.accepted[0])
        arena.go()


class AdoptLate(AdoptEarly):
    """The CLI has written the only new file, which has another ID, and has ended with success."""

    behaviour = f"note:began other-id:{STRANGER} visit wait:armed pass"

    def act(self, arena: Arena) -> None:
        """Nothing: the CLI goes on by itself."""


class Progress(Scenario):
    """The CLI is at work."""

    victims = ("horse", "worker", "both")
    kinds: tuple[str, ...] = ("horse",)
    behaviour = "note:began child deaf visit wait:go pass note:passed"
    source: str | None = "Pass"
    keeps = LOOK

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_recorded(arena.accepted[0])

    def act(self, arena: Arena) -> None:
        """Nothing: it is under way."""

    def finish(self, arena: Arena) -> None:
        arena.go()

    def after(self, arena: Arena) -> None:
        arena.go()


class HorseDied(Progress):
    """The worker closes the run of its dead work-horse, whose CLI lives on."""

    kinds: tuple[str, ...] = ("worker",)
    source = None
    keeps = ""

    def act(self, arena: Arena) -> None:
        (horse,) = work_horses(arena.lines["worker"].pid)
        horse.kill()


class RecoverStarted(Scenario):
    """Worker and work-horse died, and the CLI lives on."""

    kinds: tuple[str, ...] = ("recovery",)
    behaviour = "note:began child deaf visit wait:go pass note:passed"
    dies, victim = Point("", "horse", "log started", 1), "both"

    def first(self, arena: Arena) -> None:
        arena.kill_at(self.dies, self.victim)

    def act(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_death(0)
        arena.revive()


class RecoverPopped(RecoverStarted):
    """The worker died when it had taken the job, and before it claimed the run."""

    behaviour = PASSES
    dies, victim = Point("", "worker", "open tasks/t/runs/ID/lock", 1), "worker"


class RecoverUnqueued(RecoverStarted):
    """The web process died when the run was accepted, and before its job was in Redis."""

    behaviour = PASSES
    dies, victim = Point("", "web", "redis SADD+HSET+ZREM+ZADD+EVALSHA+PUBLISH", 1), "web"


class RecoverOver(RecoverStarted):
    """Worker and work-horse died when the run was over on the disk, and not yet in Redis."""

    behaviour = PASSES
    dies, victim = Point("", "horse", "remove tasks/t/runs/ID/reserve", 1), "both"


ALL = (
    *(Pass(), Fail(), AcceptOnce(), Replay(), Progress(), StopWaiting(), StopRunning(), Prune(), AdoptEarly()),
    *(AdoptLate(), HorseDied(), Batch(), RecoverStarted(), RecoverPopped(), RecoverUnqueued(), RecoverOver()),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in ALL}


def rows_of(scenario: Scenario) -> list[Row]:
    points = [point for point in known_points() if point.scenario == (scenario.source or scenario.name)]
    chosen = [point for point in points if point.kind in scenario.kinds and point.name.startswith(scenario.keeps)]
    return [
        Row(point._replace(scenario=scenario.name), victim)
        for point in chosen
        for victim in VICTIMS[point.kind]
        if point.kind != "horse" or victim in scenario.victims
    ]


def all_rows() -> list[Row]:
    """The whole matrix."""
    return [row for scenario in ALL for row in rows_of(scenario)]
