"""What a work-horse makes of what the CLI has printed, and of signals."""

import msgspec
import pytest

from jobs.run.record import record_to_json
from jobs.run.state import RunType
from jobs.worker import execution as module
from runner.cli.command import Command, ProcessExit
from runner.errors import CommandNotStarted
from runner.ids import RunId
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor
from tests.project import VISIT
from tests.unit.runs import OTHER
from tests.unit.worker.watched import END, STARTED, Cli, Watched, nothing

PANEL = "╭── Replay Failed ──╮\n│ it broke here │\n╰────╯\n"


def message(run: Watched, end: ProcessExit = END) -> str:
    outcome = run.run(nothing, end=end).outcome
    assert outcome is not None
    return outcome.error_message or ""


def test_the_last_words_of_the_cli_say_why_a_run_failed(run: Watched) -> None:
    run.folder.log.write_bytes(b"first\nlast \xff words\n")
    assert message(run, end=ProcessExit(3, None)).endswith("ended with exit code 3. It said: last \ufffd words")


def test_the_last_words_are_looked_for_at_the_end_of_the_log(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_TAIL", 6)
    run.folder.log.write_bytes(b"unseen words\n")
    assert message(run).endswith("It said: words")


def test_a_log_that_could_not_be_written_is_no_source_of_words(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cli, "log_problem", "No space left on device")
    run.folder.log.write_bytes(b"half a sen")
    words = "nothing that was kept, since its log could not be written (No space left on device)."
    assert message(run).endswith(f"It said: {words}")


@pytest.mark.parametrize(("original", "reason"), [(None, "cli_error"), (OTHER, "test_failed")])
def test_only_the_panel_of_a_replay_says_how_it_ended(run: Watched, original: RunId | None, reason: str) -> None:
    run.record = msgspec.structs.replace(STARTED, original_traversal_id=original, run_type=RunType.REPLAY)
    run.folder.write_record(record_to_json(run.record))
    run.folder.log.write_text(PANEL)
    outcome = run.run(run.writes(STARTED.run_id, [VISIT], "PENDING"), nothing, end=ProcessExit(1, None)).outcome
    assert outcome is not None
    assert outcome.reason == reason


@pytest.mark.parametrize("healing", [False, True])
def test_the_command_of_a_replay_names_the_file_that_is_repeated(
    run: Watched, healing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_type = RunType.REPLAY_WITH_HEALING if healing else RunType.REPLAY
    run.record = msgspec.structs.replace(STARTED, original_traversal_id=RunId(OTHER), run_type=run_type)
    run.folder.write_record(record_to_json(run.record))
    given: list[tuple[Command, RunFolder, Redactor, None]] = []

    def refuse(*arguments: object) -> None:
        given.append(arguments)  # type: ignore[arg-type]
        raise CommandNotStarted("x", "no such program.")

    monkeypatch.setenv("INHERITED", "yes")
    monkeypatch.setattr(module, "CliProcess", refuse)
    outcome = run.execution().run().outcome
    assert outcome is not None
    assert (outcome.reason, outcome.error_message) == ("cli_error", str(CommandNotStarted("x", "no such program.")))
    ((command, folder, redactor, template),) = given
    assert command.argv[-3:] == (("replay", OTHER, "--healing") if healing else ("buy", "replay", OTHER))
    assert (command.environ["INHERITED"], folder) == ("yes", run.folder)
    assert (redactor, template) == (run.files.redactor(STARTED.task_id), None)


def test_processes_that_could_not_be_ended_are_counted(
    run: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run.run(nothing)
    assert "event=processes_left" not in caplog.text
    run.folder.write_record(record_to_json(STARTED))
    monkeypatch.setattr(Cli, "clear", lambda _: 2)
    run.run(nothing)
    assert "event=processes_left" in caplog.text
    assert "count=2" in caplog.text
