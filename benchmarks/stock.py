"""What a job is without us: RQ's own worker calls this function, which starts the command and waits for it."""

import os
import subprocess

from rq import get_current_job


def execute(command: list[str], folder: str) -> None:
    """Run the command in the folder, with the job's ID in its environment."""
    job = get_current_job()
    assert job is not None
    environ = {**os.environ, "BUGNINJA_RUN_ID": job.id}
    with subprocess.Popen(command, cwd=folder, env=environ) as process:
        process.wait()
