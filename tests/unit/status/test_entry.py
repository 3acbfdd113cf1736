"""A run in a list, and when it is looked at for the last time."""

from jobs.status.entry import SETTLING_SECONDS, EntryReader

from runner.ids import RunId, TaskId
from runner.project.run_files import RunFiles
from tests.project import PASSED, VISIT, Project, traversal_bytes
from tests.unit.runs import DAY, STAMP, by_hand, write_run
from tests.waiting import wait_for

TASK, RUN = TaskId("buy"), RunId(by_hand("a"))


def reader_of(project: Project) -> EntryReader:
    return EntryReader(RunFiles(project.root / "tasks"))


def test_a_run_made_by_hand_that_has_just_ended_is_settled_a_moment_later(project: Project) -> None:
    content = traversal_bytes([VISIT, PASSED], "SUCCESSFUL")
    write_run(project.add_task("buy"), STAMP, RUN, content, age=SETTLING_SECONDS - 0.5)
    reader = reader_of(project)
    entry = reader.read(TASK, RUN, None, reader.stat(TASK, RUN, None))
    assert entry is not None
    assert not entry.settled

    def is_settled() -> bool:
        again = reader.read(TASK, RUN, entry, reader.stat(TASK, RUN, entry))
        return again is not None and again.settled

    wait_for(is_settled, SETTLING_SECONDS)


def test_a_recording_that_was_never_completed_is_never_settled(project: Project) -> None:
    write_run(project.add_task("buy"), STAMP, RUN, traversal_bytes([VISIT]), age=DAY)
    reader = reader_of(project)
    entry = reader.read(TASK, RUN, None, reader.stat(TASK, RUN, None))
    assert entry is not None
    assert (entry.reason, entry.settled) == ("lost", False)
    assert reader.read(TASK, RUN, entry, reader.stat(TASK, RUN, entry)) is entry, "it is not read again either"
