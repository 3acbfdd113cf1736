"""The command line and the environment of the CLI."""

from pathlib import Path

from runner.cli.command import build_command
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


def test_output_is_neither_held_back_nor_ascii_unless_the_environment_says_so() -> None:
    settings = read_settings({})
    environ = build_command(settings, FOLDER, {}).environ
    assert (environ["PYTHONUNBUFFERED"], environ["PYTHONIOENCODING"]) == ("1", "utf-8")
    assert build_command(settings, FOLDER, {"PYTHONIOENCODING": "latin-1"}).environ["PYTHONIOENCODING"] == "latin-1"
