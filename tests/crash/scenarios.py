"""What is under way when a process is killed. Each scenario has a client, who does what a client would do then."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import psutil

from tests.crash.arena import TASK, Arena
from tests.crash.points import VICTIMS, Point, Row, known_points
from tests.crash.watcher import LOOK
from tests.waiting import wait_for

PASSES = "note:began visit pass note:passed"
WAITS = "note:began visit wait:go pass note:passed"
STRANGER = "stranger0stranger0strang"  # the ID in the name of a file that a CLI writes without ours


class Scenario:
    """The base: a run that passes, and another one behind it."""

    kinds: tuple[str, ...] = ()
    """Whose steps are looked at."""
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


class Accept(Scenario):
    kinds: tuple[str, ...] = ("web",)


class AcceptOnce(Scenario):
    """With an Idempotency-Key: the client sends the request again, and there is one run."""

    kinds: tuple[str, ...] = ("web",)

    def act(self, arena: Arena) -> None:
        arena.start_run(**{"Idempotency-Key": "once"})

    def after(self, arena: Arena) -> None:
        arena.unanswered = 0
        assert arena.start_run(**{"Idempotency-Key": "once"}).status in (200, 202)
        assert arena.run_ids() == sorted({*arena.accepted}), "one run"


class Replay(Scenario):
    kinds: tuple[str, ...] = ("web",)

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.stack.wait_final(arena.accepted[0])

    def act(self, arena: Arena) -> None:
        arena.post(f"/test-runs/replay-run/{arena.accepted[0]}")


class Pass(Scenario):
    """A run starts, goes on and ends, and another one waits for it."""

    victims = ("horse", "worker", "both")
    kinds: tuple[str, ...] = ("worker", "horse")

    def act(self, arena: Arena) -> None:
        arena.start_run()

    def after(self, arena: Arena) -> None:
        arena.start_run()


class Fail(Pass):
    kinds: tuple[str, ...] = ("horse",)
    behaviour = "note:began child deaf visit fail note:failed"
    keeps = "kill"


class StopWaiting(Scenario):
    """A run that waits for another one is stopped."""

    kinds: tuple[str, ...] = ("web",)
    behaviour = WAITS
    waiting = 1

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_visited(arena.accepted[0])
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
    """The command deletes the older one of two runs."""

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
        gone = arena.accepted.pop(0)
        arena.pruned.append(gone)
        assert arena.prune() == 0
        assert arena.stack.call("GET", f"/test-runs/{gone}").status == 404
        assert not arena.stack.redis.exists(f"rq:job:{gone}")
        left = [path for path in arena.task.rglob("*") if gone in str(path) and ".gone-" not in str(path)]
        assert not left, left


class AdoptEarly(Scenario):
    """The CLI prints the name of its file, which has another ID, and goes on."""

    kinds: tuple[str, ...] = ("horse",)
    behaviour = f"note:began other-id:{STRANGER} visit wait:armed name-file wait:go pass"

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_visited(STRANGER)
        (arena.task / "behaviour").write_text(PASSES)

    def act(self, arena: Arena) -> None:
        dead = [death.died for death in arena.deaths]
        wait_for(lambda: any(map(Path.exists, dead)) or STRANGER in record_text(arena), 20, "the adoption on the disk")
        arena.go()


class AdoptLate(AdoptEarly):
    """The CLI has written the only new file, which has another ID, and has ended with success."""

    behaviour = f"note:began other-id:{STRANGER} visit wait:armed pass"

    def act(self, arena: Arena) -> None:
        """Nothing: the CLI goes on by itself."""


def record_text(arena: Arena) -> str:
    return (arena.task / "runs" / arena.accepted[0] / "run.json").read_text()


class Progress(Scenario):
    """The CLI is at work."""

    victims = ("horse", "worker", "both")
    kinds: tuple[str, ...] = ("horse",)
    behaviour = "note:began child deaf visit wait:go pass note:passed"
    keeps = LOOK

    def prepare(self, arena: Arena) -> None:
        arena.start_run()
        arena.wait_visited(arena.accepted[0])

    def act(self, arena: Arena) -> None:
        """Nothing: it is under way."""

    def finish(self, arena: Arena) -> None:
        arena.go()

    def after(self, arena: Arena) -> None:
        arena.go()


class HorseDied(Progress):
    """The worker closes the run of its dead work-horse, whose CLI lives on."""

    kinds: tuple[str, ...] = ("worker",)
    keeps = ""

    def act(self, arena: Arena) -> None:
        (horse,) = psutil.Process(arena.lines["worker"].pid).children()
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
    dies, victim = Point("", "web", "redis SADD+HSET+ZADD+EVALSHA+PUBLISH", 1), "web"


class RecoverOver(RecoverStarted):
    """Worker and work-horse died when the run was over on the disk, and not yet in Redis."""

    behaviour = PASSES
    dies, victim = Point("", "horse", "remove tasks/t/runs/ID/reserve", 1), "both"


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Accept(),
        AcceptOnce(),
        Replay(),
        Pass(),
        Fail(),
        StopWaiting(),
        StopRunning(),
        Prune(),
        AdoptEarly(),
        AdoptLate(),
        Progress(),
        HorseDied(),
        RecoverStarted(),
        RecoverPopped(),
        RecoverUnqueued(),
        RecoverOver(),
    )
}


def all_rows() -> list[Row]:
    """The whole matrix."""
    rows = [Row(point, victim) for point in known_points() for victim in VICTIMS[point.kind]]
    return [row for row in rows if row.point.kind != "horse" or row.victim in SCENARIOS[row.point.scenario].victims]
