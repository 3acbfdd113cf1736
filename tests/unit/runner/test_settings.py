"""Settings: defaults, checks, messages."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import SettingsError
from runner.settings import SECRET, VARIABLES, Settings, read_settings
from runner.values import Rejected
from tests.stack import ROOT


def test_an_empty_environment_gives_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings({})
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.project_root == tmp_path.resolve()
    assert settings.runner_command == ("bugninja", "run", "{task_id}")
    assert (settings.run_timeout, settings.run_ttl) == (3600, 30 * 24 * 3600)
    assert (settings.host, settings.port, settings.log_level) == ("127.0.0.1", 8000, "INFO")
    assert "http://localhost:5173" in settings.cors_origins


def test_the_command_is_split_as_a_shell_would_split_it() -> None:
    settings = read_settings({"RUNNER_COMMAND": "'/opt/my tools/bugninja' run \"{task_id}\" --x=$HOME"})
    assert settings.runner_command == ("/opt/my tools/bugninja", "run", "{task_id}", "--x=$HOME")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_settings({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "expectation"),
    [
        ("REDIS_URL", "localhost:6379", "a URL such as redis://"),
        ("REDIS_URL", "redis://127.0.0.1:99999/0", "a port"),
        ("REDIS_URL", "redis://127.0.0.1:0/0", "a port"),
        ("REDIS_URL", "redis://h/abc", "a database"),
        ("REDIS_URL", "redis://h/-1", "a database"),
        ("REDIS_URL", "redis://h/1/2", "a database"),
        ("REDIS_URL", "redis:///0", "a URL such as redis://"),
        ("REDIS_URL", "unix://", "a URL such as redis://"),
        ("REDIS_URL", "redis://[::1", "can be parsed"),
        ("REDIS_URL", "redis://:pa#ss@h/0", "%23"),
        ("REDIS_URL", "redis://:pa/ss@h/0", "%2F"),
        ("REDIS_URL", "redis://:pa?ss@h/0", "%3F"),
        ("PROJECT_ROOT", "/nowhere/at/all", "an existing folder"),
        ("PROJECT_ROOT", "/etc/passwd", "an existing folder"),
        ("PROJECT_ROOT", "/" + "x" * 300, "too long"),
        ("PROJECT_ROOT", "~nobody-of-this-name/x", "a path that leads somewhere"),
        ("REDIS_DATA", "~nobody-of-this-name/x", "a path that leads somewhere"),
        ("RUNNER_COMMAND", "bugninja run 'x", "a command line"),
        ("RUNNER_COMMAND", "bugninja run", "{task_id}"),
        ("RUNNER_COMMAND", "bugninja run {task_id} {run}", "{task_id} and {run_id} (not {run})"),
        ("RUNNER_COMMAND", "bugninja run {task}", "(not {task})"),
        ("RUNNER_COMMAND", "bugninja run {task_id} {traversal_id}", "(not {traversal_id})"),
        ("RUNNER_REPLAY_COMMAND", "bugninja {traversal_id} {task}", "(not {task})"),
        ("RUN_TIMEOUT", "soon", "an integer from 1 to"),
        ("RUN_TIMEOUT", "0", "an integer from 1"),
        ("RUN_TTL", "59", "an integer from 60"),
        ("QUEUE_NAME", "a b", "a name of letters"),
        ("HOST", "http://x/", "a host name"),
        ("HOST", "x/y", "a host name or an IP address to listen on, got"),
        ("HOST", "[::1", "without a port"),
        ("HOST", "x]", "a host name"),
        ("HOST", "[127.0.0.1]", "without a port"),
        ("HOST", "127.0.0.1:8000", "without a port"),
        ("PORT", "65536", "from 1 to 65535"),
        ("CORS_ORIGINS", "http://a.example/path", "origins such as"),
        ("CORS_ORIGINS", "*", "origins such as"),
        ("CORS_ORIGINS", "http://[x", "can be parsed"),
        ("ALLOWED_HOSTS", "a.example:80", "host names without ports"),
        ("ALLOWED_HOSTS", "http://a", "host names without ports"),
        ("LOG_LEVEL", "LOUD", "one of DEBUG, INFO"),
        ("METRICS", "on", "token, open or off"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_expected(variable: str, value: str, expectation: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({variable: value})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{variable} must be ")
    shown = "a value that is not repeated here" if variable in SECRET else repr(value)
    assert problem.endswith(f", got {shown}.")
    assert expectation in problem


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"PORT": "x", "RUN_TTL": "y", "LOG_LEVEL": "z"})
    assert [problem.split()[0] for problem in caught.value.problems] == ["RUN_TTL", "PORT", "LOG_LEVEL"]
    assert all(name in str(caught.value) for name in ("PORT", "RUN_TTL", "LOG_LEVEL"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://user:p%23ss@h:1/99",
        "rediss://[::1]:1/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=1&password=x",
    ],
)
def test_a_url_of_a_redis_is_kept_as_it_is(url: str) -> None:
    assert read_settings({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    "command", ["x {task_id} ${name} {} '{\"a\": 1}' '{ print }'", "x {task_id} {run_id}", "x --t={task_id}"]
)
def test_braces_that_are_no_placeholder_are_left_alone(command: str) -> None:
    assert read_settings({"RUNNER_COMMAND": command}).runner_command


def test_a_replay_may_name_its_task_and_run() -> None:
    command = "x {traversal_id} {task_id} {run_id}"
    assert read_settings({"RUNNER_REPLAY_COMMAND": command}).runner_replay_command == tuple(command.split())


@pytest.mark.parametrize("name", SECRET)
def test_what_may_hold_a_secret_is_not_repeated(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({name: "http://:hunter2"})
    assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path or mode & (os.R_OK | os.X_OK) == 0)
    with pytest.raises(SettingsError, match=r"PROJECT_ROOT must be a folder that this user can read \(it is read as "):
        read_settings({"PROJECT_ROOT": str(tmp_path)})

    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(SettingsError, match=r"PROJECT_ROOT must be an existing folder \(.*: Permission denied\)"):
        read_settings({"PROJECT_ROOT": str(tmp_path)})


def test_more_checks_are_named_with_the_others() -> None:
    def check(text: str) -> None:
        raise Rejected(f"better than {text}")

    with pytest.raises(SettingsError) as caught:
        read_settings({"PORT": "x", "HOST": "h"}, {"HOST": check})
    assert caught.value.problems == [
        "HOST must be better than h, got 'h'.",
        "PORT must be an integer from 1 to 65535, got 'x'.",
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9123"),
        ("0.0.0.0", "http://127.0.0.1:9123"),
        ("::", "http://[::1]:9123"),
        ("::1", "http://[::1]:9123"),
        ("shop.example", "http://shop.example:9123"),
    ],
)
def test_the_web_process_has_an_address(host: str, url: str) -> None:
    assert read_settings({"HOST": host, "PORT": "9123"}).base_url == url


def test_a_variable_is_printed_or_the_problem_is_said() -> None:
    command = [sys.executable, "-m", "runner.settings", "QUEUE_NAME"]
    environ = {**os.environ, "PORT": "x"}
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The settings cannot be used:\n  - PORT must be")


def test_every_variable_stands_in_the_example_and_in_the_documentation() -> None:
    assert {field.name.upper() for field in dataclasses.fields(Settings)} == set(VARIABLES)
    example, documentation = (ROOT / ".env.example").read_text(), (ROOT / "docs" / "configuration.md").read_text()
    for name, variable in VARIABLES.items():
        assert f"\n{name}=" in example
        assert f"| `{name}` |" in documentation
        if name not in ("RUNNER_COMMAND", "RUNNER_REPLAY_COMMAND", "RUNNER_WARM_IMPORTS", "CORS_ORIGINS"):
            default = f" `{variable.default}`" if variable.default else ""
            assert f"\n{name}={variable.default}\n" in example
            assert f"| `{name}` |{default} | {variable.meaning} |" in documentation


def test_the_defaults_in_the_procfile_are_those_of_the_settings() -> None:
    procfile = (ROOT / "Procfile").read_text()
    assert f"${{REDIS_URL:-{VARIABLES['REDIS_URL'].default}}}" in procfile


def test_each_project_has_a_queue_of_its_own(tmp_path: Path) -> None:
    names = set()
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir()
        environ = {**os.environ, "PROJECT_ROOT": str(root), "QUEUE_NAME": ""}
        command = [sys.executable, "-m", "runner.settings", "QUEUE_NAME"]
        printed = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert printed == f"{read_settings({'PROJECT_ROOT': str(root)}).queue_name}\n"
        assert re.fullmatch("bugninja-[0-9a-f]{8}\n", printed)
        (tmp_path / f"link-to-{name}").symlink_to(root)
        assert read_settings({"PROJECT_ROOT": str(tmp_path / f"link-to-{name}")}).queue_name == printed.strip()
        names.add(printed)
    assert len(names) == 2
    assert "${QUEUE_NAME:-$(python -m runner.settings QUEUE_NAME)}" in (ROOT / "Procfile").read_text()
    assert read_settings({"QUEUE_NAME": "shop"}).queue_name == "shop"


def test_a_bad_token_is_refused_without_being_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"API_TOKEN": "too-short"})
    assert "too-short" not in str(caught.value)
    assert "API_TOKEN must be at least 16 printable ASCII" in str(caught.value)
    assert "got a value that is not repeated here." in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[0:0::1]", "::1"),
        ("::", "::"),
        ("localhost", "localhost"),
        ("10.0.0.7",) * 2,
    ],
)
def test_an_address_of_ipv6_may_have_brackets(text: str, host: str) -> None:
    assert read_settings({"HOST": text}).host == host
