"""The floors: a bare Starlette that says hello, and a job without us. `python -m benchmarks.floor PORT` says hello.

RQ's own worker imports this file for each job, so it imports little.
"""

import os
import subprocess
import sys


def execute(command: list[str], folder: str) -> None:
    """What RQ's own worker calls: run the command in the folder, with the job's ID in its environment."""
    from rq import get_current_job

    job = get_current_job()
    assert job is not None
    environ = {**os.environ, "BUGNINJA_RUN_ID": job.id}
    with subprocess.Popen(command, cwd=folder, env=environ) as process:
        process.wait()


def say_hello(port: int) -> None:
    """Answer requests for /hello, until it is ended."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/hello", hello)])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="error", server_header=False)


if __name__ == "__main__":
    say_hello(int(sys.argv[1]))
