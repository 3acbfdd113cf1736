"""The command line and the environment of the CLI."""

import logging
from pathlib import Path

import pytest

from runner.cli.command import build_command, log_missing
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from runner.settings import read_settings

FOLDER = RunFolder(Path("/project/tasks"), TaskId("order_form"), RunId("a" * 24))


def test_the_command_carries_both_ids_and_runs_in_the_project(tmp_path: Path) -> None:
    settings = read_settings({"PROJECT_ROOT": str(tmp_path), "RUNNER_COMMAND": "bugninja run {task_id} --x={run_id}"})
    command = build_command(settings, FOLDER, {"PATH": "/bin", "OPENAI_API_KEY": "k"})
    assert command.argv == ("bugninja", "run", "order_form", "--x=" + "a" * 24)
    assert command.folder == tmp_path.resolve()
    assert command.environ["BUGNINJA_RUN_ID"] == "a" * 24
    assert command.environ["BUGNINJA_TASK_ID"] == "order_form"
    assert command.environ["BUGNINJA_RUN_FOLDER"] == f"/project/tasks/order_form/runs/{'a' * 24}"
    assert command.environ["OPENAI_API_KEY"] == "k"


def test_the_stacks_own_variables_do_not_reach_the_cli() -> None:
    ours = {"REDIS_URL": "redis://:secret@h/0", "PORT": "8200", "RQ_JOB_ID": "x", "HONCHO_PROCESS_NAME": "worker.1"}
    assert not set(ours) & set(build_command(read_settings({}), FOLDER, ours).environ)


def test_the_cli_is_told_where_the_web_process_is() -> None:
    settings = read_settings({"HOST": "::1", "PORT": "9123"})
    assert build_command(settings, FOLDER, {}).environ["BUGNINJA_RUNNER_URL"] == "http://[::1]:9123"
    own = {"BUGNINJA_RUNNER_URL": "http://other"}
    assert build_command(settings, FOLDER, own).environ["BUGNINJA_RUNNER_URL"] == "http://other"
    assert "BUGNINJA_RUNNER_URL" not in build_command(settings, FOLDER, {"HONCHO_PROCESS_NAME": "worker.1"}).environ


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("there {task_id}", None),
        ("bin/there {task_id}", None),
        ("bin/{task_id}/x {task_id}", None),
        ("bin/gone {task_id}", "bin/gone"),
        ("gone {task_id}", "gone"),
        ("/no/such/program {task_id}", "/no/such/program"),
        ("unusable {task_id}", "unusable"),
    ],
)
def test_a_program_that_is_missing_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: str, missing: str | None
) -> None:
    for folder in ("bin", "tasks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / "unusable").touch()
    (tmp_path / "bin" / "there").touch(0o755)
    replay = "bin/there {traversal_id}"
    environ = {"PROJECT_ROOT": str(tmp_path), "RUNNER_COMMAND": command, "RUNNER_REPLAY_COMMAND": replay}
    log_missing(read_settings(environ), {"PATH": str(tmp_path / "bin")})
    expected = [f"event=program_missing variable=RUNNER_COMMAND program={missing}"] if missing else []
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == expected


def test_a_project_without_a_folder_of_tasks_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_missing(read_settings({"PROJECT_ROOT": str(tmp_path)}), {"PATH": ""})
    assert f"event=no_tasks folder={tmp_path / 'tasks'}" in caplog.text
    assert "event=program_missing variable=RUNNER_REPLAY_COMMAND program=bugninja" in caplog.text


def test_output_is_neither_held_back_nor_ascii_unless_the_environment_says_so() -> None:
    settings = read_settings({})
    environ = build_command(settings, FOLDER, {}).environ
    assert (environ["PYTHONUNBUFFERED"], environ["PYTHONIOENCODING"]) == ("1", "utf-8")
    assert build_command(settings, FOLDER, {"PYTHONIOENCODING": "latin-1"}).environ["PYTHONIOENCODING"] == "latin-1"
