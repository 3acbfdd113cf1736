"""What is secret, and that none of it leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.redaction import Redactor
from runner.secrets import read_environment_secrets, secrets_of_task, secrets_of_traversal
from runner.spellings import is_common
from tests.project import make_action
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    OTHER,
    jobs_as_text,
)

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|_"), min_size=5, max_size=16
).filter(lambda value: not is_common(value))


def planted(secret: str) -> bytes:
    """A traversal with the secret in every field that there is."""
    action = make_action(
        0, "input_text", {"index": 0, "text": secret, "xpath": secret, secret: secret, "odd": [secret]}
    )
    action |= {
        "dom_element_data": {"xpath": secret, "tag_name": secret, "attributes": {"value": secret}},
        "screenshot_filename": f"screenshots/{secret}.png",
        "brain_state_id": secret,
        "timestamps": {secret: secret},
    }
    lost = {**action, "brain_state_id": f"x{secret}", "action": {secret: {"text": secret}, "done": None}}
    thought = {key: f"{key} {secret}" for key in ("evaluation_previous_goal", "memory", "next_goal")}
    fault = make_action(2, "done", {"text": f"Wrong: {secret}", "success": False}, secret)
    document = {
        "test_case": secret,
        "start_url": secret,
        "extra_instructions": [secret],
        "browser_config": {"user_data_dir": secret, "extra_http_headers": {"X": secret}, "user_agent": secret},
        "secrets": {"PLANTED": secret},
        "http_auth": {"username": secret, "password": secret},
        "brain_states": {secret: thought},
        "actions": {"action_0": action, "action_1": lost, "action_2": fault},
        "status": "FAILED",
        "extracted_data": {secret: secret},
    }
    return json.dumps(document).encode()


class StackInThisEnvironment:
    """The same stack, whose web process was started in the environment as it is now."""

    def __init__(self, stack: FakeStack) -> None:
        self.fresh = FakeStack(stack.project, stack.server)

    def __enter__(self) -> FakeStack:
        self.fresh.client.__enter__()
        return self.fresh

    def __exit__(self, *_: object) -> None:
        self.fresh.client.__exit__(None, None, None)


def test_secrets_of_a_task_and_of_a_traversal() -> None:
    task = {
        "secrets": {"PASSWORD": "p1", "PIN": 4711, "NESTED": {"x": "n1"}},
        "task": {"http_auth": {"username": "u2", "password": "p2"}, "start_url": "http://u3:p3@host/"},
        "run_config": {"proxy": {"server": "http://u4:p4@proxy:1"}},
    }
    values = {secret.value for secret in secrets_of_task(task)}
    assert {"p1", "4711", "n1", "u2", "p2", "u2:p2", "u3", "p3", "u4", "p4"} <= values
    traversal = {
        "secrets": {"A": "s1"},
        "http_auth": {"username": "u1", "password": "p1"},
        "browser_config": {
            "http_credentials": {"username": "u2", "password": "p2"},
            "proxy": {"server": "x", "username": "u3", "password": "p3"},
            "extra_http_headers": {"Authorization": "Bearer t1"},
            "headers": {"X-Key": "k1"},
        },
    }
    values = {secret.value for secret in secrets_of_traversal(traversal)}
    assert {"s1", "u1", "p1", "u2", "p2", "u3", "p3", "Bearer t1", "t1", "k1"} <= values
    odd: list[dict[str, Any]] = [{}, {"secrets": 3, "browser_config": [], "http_auth": "x", "start_url": 4}]
    assert [list(secrets_of_traversal(document)) for document in odd] == [[], []]


def test_secrets_of_the_environment_and_the_projects_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('OPENAI_API_KEY=from-file\nexport \'broken\nOTHER=x\nDB_PASSWORD="quoted one"\n')
    environ = {"MY_TOKEN": "from-env", "A_SECRET": "abc", "PATH": "/bin", "HOME": "/home/ada"}
    found = {secret.name: secret for secret in read_environment_secrets(environ, tmp_path)}
    assert found["MY_TOKEN"].value == "from-env"
    assert found["OPENAI_API_KEY"].value == "from-file"
    assert found["DB_PASSWORD"].value == "quoted one"
    assert "A_SECRET" not in found  # too short to be told from any other text
    redactor = Redactor(found.values())
    assert redactor.text(f"{tmp_path}/tasks/x and /home/ada/.cache") == "./tasks/x and ~/.cache"


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS.map("§{}".format))  # a sign that no word of ours has
def test_a_planted_secret_is_in_no_response_of_any_endpoint(stack: FakeStack, secret: str) -> None:
    task = f"task_{len(list(stack.settings.tasks_root.iterdir()))}"
    quoted = json.dumps(secret, ensure_ascii=False)
    texts = "".join(f"{name} = {quoted}\n" for name in ("name", "description", "start_url", "category"))
    texts += f"extra_instructions = [{quoted}]\nallowed_domains = [{quoted}]\n"
    toml = f"[task]\n{texts}[run_config]\nuser_agent = {quoted}\n[secrets]\nPLANTED = {quoted}\n"
    folder = stack.project.add_task(task, f"print:{secret} panel:{secret}_Error think:{secret} exit:3", toml=toml)
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(planted(secret))
    run_id = stack.run(task)["id"]
    responses = [stack.post(task), stack.client.get(f"/test-runs/{run_id}"), stack.client.get(f"/test-runs/{OTHER}")]
    responses += [stack.client.get(f"/test-runs/{run_id}/log"), stack.client.get(f"/test-runs/{OTHER}/log")]
    responses += [stack.client.post(f"/test-runs/{OTHER}/rerun")]
    lists = ("/test-runs?page_size=200", f"/test-runs/test-case/{task}", "/tasks?page_size=200", f"/tasks/{task}")
    of_project = ("/project", "/browser-types", "/browser-configs/project/project", "/secret-values/project/project")
    responses += [stack.client.get(path) for path in (*lists, *of_project)]
    for response in responses:
        assert response.status_code in (200, 202), response.text
        text = (
            json.dumps(response.json(), ensure_ascii=False)
            if "json" in response.headers["content-type"]
            else response.text
        )
        visible = text.replace("<secret>PLANTED</secret>", "\0")
        for spelling in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            assert spelling not in visible
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").unlink()


def test_secrets_and_local_paths_stay_out_of_document_log_record_and_redis(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-key")
    secret = "hunter2-secret"
    toml = f'[task]\nname = "n"\ndescription = "use {secret}"\n[secrets]\nPASSWORD = "{secret}"\n'
    folder = stack.project.add_task("buy", f"print:{secret} print:sk-environment-key think:{secret} exit:3", toml=toml)
    with StackInThisEnvironment(stack) as fresh:
        run = fresh.run("buy")
        log = fresh.client.get(f"/test-runs/{run['id']}/log").text
    assert log == "<secret>PASSWORD</secret>\n<secret>OPENAI_API_KEY</secret>\n"
    assert "sk-" not in json.dumps(run)
    assert secret not in json.dumps(run)
    assert run["error_message"].endswith("It said: <secret>OPENAI_API_KEY</secret>")
    assert secret.encode() not in b"".join(path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file())
    assert secret not in jobs_as_text(stack.redis)
    assert secret not in "".join(capfd.readouterr())
