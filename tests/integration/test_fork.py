"""A work-horse is forked while the worker's other thread is busy: it must never inherit a lock that is held."""

import sys
from collections.abc import Callable
from pathlib import Path

from tests.project import Project
from tests.stack import Stack

BEATING_ALL_THE_TIME = """
import sys
import jobs.worker.worker
from rq.cli import main

jobs.worker.worker.HEARTBEAT_SECONDS = 0.003
sys.argv = ["rq", *sys.argv[1:]]
main()
"""


def test_a_worker_whose_heart_beats_all_the_time_executes_every_run(
    project: Project, new_stack: Callable[..., Stack]
) -> None:
    stack = new_stack()
    for name in ("redis", "web"):
        stack.line(name)
    script = Path(stack.folder / "worker.py")
    script.write_text(BEATING_ALL_THE_TIME)
    words = (
        f"worker --url {stack.environ['REDIS_URL']} --connection-class jobs.queue.connection.PatientRedis "
        "--worker-class jobs.worker.worker.RunWorker --serializer json bugninja"
    )
    stack.start(sys.executable, str(script), *words.split(), log="worker.log")
    stack.wait_ready()
    for number in range(15):
        project.add_task(f"task_{number}", "pass")
    for run_id in [stack.post(f"task_{number}") for number in range(15)]:
        assert stack.wait_final(run_id, 60)["current_state"] == "FINISHED"
