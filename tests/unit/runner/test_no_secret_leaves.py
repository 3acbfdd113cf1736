"""That nothing secret leaves: no response, log, record or job has any of it."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.spellings import is_common
from tests.project import VISIT, make_action, make_traversal, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    OTHER,
    STAMP,
    jobs_as_text,
    write_run,
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


def test_an_undecodable_variable_is_a_secret_and_stops_nothing(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_KEY", "\udcff\udcfeodd-value")
    stack.project.add_task("buy", "print:odd-value pass")
    with StackInThisEnvironment(stack) as fresh:
        run = fresh.run("buy")
        assert fresh.client.get(f"/test-runs/{run['id']}/log").text == "<secret>ODD_KEY</secret>\n"


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


ROTATED = "rotated-0ld-value"


@pytest.mark.parametrize("afterwards", ["rotated", "broken", "deleted", "task deleted"])
def test_what_was_secret_when_a_run_was_made_stays_so(
    afterwards: str, stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = f'[task]\nname = "n"\n[secrets]\nPASSWORD = "{ROTATED}"\n'
    folder = stack.project.add_task("buy", f"think:{ROTATED} print:{ROTATED} fail", toml=toml)
    run = stack.run("buy")
    file, name = folder / "task_buy.toml", stack.project.traversals("buy")[0]
    assert ROTATED in name.read_text()
    changes = {"rotated": toml.replace(ROTATED, "a-new-value"), "broken": "[task", "deleted": ""}
    file.write_text(changes.get(afterwards, ""))
    if afterwards == "deleted":
        file.unlink()
    monkeypatch.setenv("ANOTHER_KEY", f"another process {afterwards}")
    with StackInThisEnvironment(stack) as fresh:
        shown = fresh.client.get(f"/test-runs/{run['id']}")
        texts = [fresh.client.get(path).text for path in (f"/test-runs/{run['id']}/log", "/test-runs", "/tasks")]
    assert ROTATED not in shown.text + "".join(texts)
    assert shown.json() == run
    assert "<secret>PASSWORD</secret>" in shown.text


def test_a_secret_that_was_changed_stays_one_while_the_process_lives(stack: FakeStack) -> None:
    toml = f'[task]\nname = "n"\n[secrets]\nPASSWORD = "{ROTATED}"\n'
    folder = stack.project.add_task("buy", toml=toml)
    write_run(folder, STAMP, OTHER, traversal_bytes([("wait", {"note": ROTATED})], "SUCCESSFUL", secrets={}))
    assert "<secret>PASSWORD</secret>" in stack.client.get(f"/test-runs/{OTHER}").text
    (folder / "task_buy.toml").write_text(toml.replace(ROTATED, "a-new-value"))
    write_run(
        folder, STAMP, OTHER, traversal_bytes([("wait", {"note": f"{ROTATED} a-new-value"})], "SUCCESSFUL", secrets={})
    )
    shown = stack.client.get(f"/test-runs/{OTHER}").text
    assert ROTATED not in shown
    assert "a-new-value" not in shown


def test_the_secrets_that_a_traversal_names_are_taken_out_of_it(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    content = traversal_bytes(
        [("wait", {"note": "only-in-file http-secret x-api-value"})],
        "SUCCESSFUL",
        secrets={"PASSWORD": "only-in-file"},
        browser_config={"extra_http_headers": {"X-Api": "x-api-value"}},
    )
    write_run(folder, STAMP, OTHER, content)
    note = stack.get(OTHER)["brain_states"][0]["history_elements"][0]["action"]["wait"]["note"]
    assert note == "<secret>PASSWORD</secret> <secret>HTTP_AUTH</secret> <secret>X-Api</secret>"


@pytest.mark.parametrize(
    "secret", ["test", "button", "1280", "screenshots", "click_element_by_index", "html", "run", "done"]
)
def test_a_secret_that_is_a_common_word_destroys_nothing(secret: str, stack: FakeStack) -> None:
    """Structure is never redacted, only texts are; and these only where they are the whole text."""
    toml = f'[task]\nname = "a test"\n[secrets]\nS = "{secret}"\n'
    folder = stack.project.add_task("buy", toml=toml)
    action = make_action(0, "click_element_by_index", {"index": 1280, "xpath": None, "note": secret})
    action["dom_element_data"] = {"xpath": "html/body/button[1]"}
    action["screenshot_filename"] = "screenshots/run/001_click_element_by_index.png"
    document = {**make_traversal([VISIT], "SUCCESSFUL"), "actions": {"action_0": action}}
    plain = json.loads(json.dumps(document))
    plain["actions"]["action_0"]["action"]["click_element_by_index"]["note"] = "x"
    write_run(folder, STAMP, OTHER, json.dumps(plain).encode())
    expected = stack.get(OTHER)
    write_run(folder, STAMP, OTHER, json.dumps(document).encode())
    shown = stack.get(OTHER)
    parameters = shown["brain_states"][0]["history_elements"][0]["action"]["click_element_by_index"]
    assert parameters == {"index": 1280, "xpath": None, "note": "<secret>S</secret>"}
    parameters["note"] = "x"
    assert [shown[key] for key in ("brain_states", "test_case")] == [
        expected[key] for key in ("brain_states", "test_case")
    ]


def test_a_page_that_hides_a_secret_in_an_element_path_does_not_show_it(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", toml='[task]\nname = "n"\n[secrets]\nS = "hunter2-secret"\n')
    action = make_action(0, "wait", {"seconds": 1})
    action["dom_element_data"] = {"xpath": "//input[@value='hunter2-secret']"}
    action["screenshot_filename"] = "screenshots/hunter2-secret of a page.png"
    document = {**make_traversal([VISIT], "SUCCESSFUL"), "actions": {"action_0": action}}
    write_run(folder, STAMP, OTHER, json.dumps(document).encode())
    shown = stack.client.get(f"/test-runs/{OTHER}").text
    assert "hunter2" not in shown
    assert "//input[@value='<secret>" in shown
