"""What the documentation says is what happens: Schemathesis makes requests from it, valid ones and others."""

import subprocess
from collections.abc import Callable

from jobs.api.routes import ENDPOINTS
from jobs.page.routes import REPORTS
from tests.project import Project
from tests.stack import Stack

NO_FINDINGS = 0
NOTHING_MATCHES = """
[[operations]]
include-name = "POST /batches"
[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "404", "409", "422"]
"""
"""Tags may be valid, and no task have them: 422."""


def schemathesis(stack: Stack, config: str = "") -> subprocess.CompletedProcess[str]:
    (stack.folder / "config.toml").write_text(config + NOTHING_MATCHES)
    command = [
        "st",
        "--config-file",
        str(stack.folder / "config.toml"),
        "run",
        f"http://127.0.0.1:{stack.port}/openapi.json",
    ]
    endless = ["--exclude-operation-id", "watch_runs"]  # its answer has no end, for which Schemathesis would wait
    fixed = [*endless, "--checks", "all", "--seed", "1", "--continue-on-failure", "--no-color", "--max-examples", "5"]
    return subprocess.run(
        [*command, *fixed], cwd=stack.folder, env=stack.environ, capture_output=True, text=True, timeout=110
    )


def test_every_answer_is_as_documented(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    folder = project.add_task("buy", "visit pass")
    run_id = stack.post("buy")
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    (folder / "screenshots" / run_id).mkdir(parents=True)
    (folder / "screenshots" / run_id / "001.png").write_bytes(b"png")
    batch = stack.call("POST", "/batches", {"tasks": ["buy"]}).body
    known = {
        "run_id": run_id,
        "batch_id": batch["id"],
        "test_case_id": "buy",
        "browser_config_id": "buy_default",
        "project_id": stack.call("GET", "/project").body["id"],
        "folder": "screenshots",
        "path": f"{run_id}/001.png",
    }
    parameters = "".join(f'"path.{name}" = "{value}"\n' for name, value in known.items())
    of_what_is_there = schemathesis(stack, f"[parameters]\n{parameters}")
    assert of_what_is_there.returncode == NO_FINDINGS, of_what_is_there.stdout
    total = len((*ENDPOINTS, *REPORTS))
    assert f"{total - 1} selected / {total} total" in of_what_is_there.stdout
    assert "Missing test data" not in of_what_is_there.stdout, of_what_is_there.stdout
    of_anything = schemathesis(stack)
    assert of_anything.returncode == NO_FINDINGS, of_anything.stdout
    assert "Traceback" not in stack.log("web")
