"""The filters and the page that a list can be asked for (checked values), and the page itself. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from jobs.run.state import RunType, State, Trigger
from runner.ids import RUN_ID_PATTERN

T = TypeVar("T")

MAX_PAGE = 1_000_000
MAX_PAGE_SIZE = 200
SortOrder = Literal["asc", "desc"]

PageNumber = Annotated[int, Meta(ge=1, le=MAX_PAGE, description=f"an integer from 1 to {MAX_PAGE}")]
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE, description=f"an integer from 1 to {MAX_PAGE_SIZE}")]
Order = Annotated[SortOrder, Meta(description="asc or desc")]
Search = Annotated[str, Meta(max_length=200, description="a text of at most 200 characters")]
TaskName = Annotated[
    str, Meta(pattern="^[a-z0-9_]{1,128}$", description="the name of a task's folder, or the CUID of a task")
]
ProjectName = Annotated[str, Meta(min_length=1, max_length=200, description="the ID of the project")]

STATES_OF: Mapping[str, frozenset[State]] = {
    "FINISHED": frozenset({State.FINISHED}),
    "PASSED": frozenset({State.FINISHED}),
    "FAILED": frozenset({State.FAILED, State.ERROR}),
    "ERROR": frozenset({State.ERROR}),
    "PENDING": frozenset({State.PENDING, State.RUNNING}),
    "RUNNING": frozenset({State.RUNNING}),
}
"""The states that each word of a filter finds. The front end has three words, and shows an ERROR as failed and a
RUNNING run as pending; a filter finds the runs that are shown under its word."""

StatusWord = Annotated[
    Literal["FINISHED", "PASSED", "FAILED", "ERROR", "PENDING", "RUNNING"],
    Meta(description="FINISHED or PASSED; FAILED (with ERROR) or ERROR; PENDING (with RUNNING) or RUNNING"),
]
RunTypeWord = Annotated[RunType, Meta(description="AGENTIC, REPLAY or REPLAY_WITH_HEALING")]


TriggerWord = Annotated[Trigger, Meta(description="api, ui, batch, rerun or cli")]
BatchName = Annotated[str, Meta(pattern=RUN_ID_PATTERN, description="the ID of a batch")]
Time = Annotated[
    datetime, Meta(tz=True, description="a time as in RFC 3339, such as 2026-11-26T08:00:00Z (a + in it is %2B)")
]
Labels = tuple[tuple[str, str], ...]
"""The labels that a run must have: keys and values."""


class PartQuery(Struct, frozen=True):
    """A part of a list that has no envelope; all of it without these."""

    page: PageNumber = 1
    page_size: PageSize = MAX_PAGE_SIZE


class PageQuery(Struct, frozen=True):
    """Which page of a list that has no filters."""

    page: PageNumber = 1
    page_size: PageSize = 20


class TaskListQuery(Struct, frozen=True):
    """Which tasks, in which order of their creation."""

    page: PageNumber = 1
    page_size: PageSize = 15
    sort_order: Order = "desc"
    search: Search = ""
    project_id: ProjectName | None = None


class RunsOfTaskQuery(Struct, frozen=True):
    """Which runs of a task, in which order of their acceptance."""

    page: PageNumber = 1
    page_size: PageSize = 10
    sort_order: Order = "desc"
    search: Search = ""
    status: StatusWord | None = None
    run_type: RunTypeWord | None = None
    trigger: TriggerWord | None = None
    batch_id: BatchName | None = None
    since: Time | None = None
    until: Time | None = None


class RunListQuery(RunsOfTaskQuery, frozen=True):
    """The same for the runs of all tasks, or of one."""

    test_case_id: TaskName | None = None
    project_id: ProjectName | None = None


def for_task(name: str, query: RunsOfTaskQuery) -> RunListQuery:
    return RunListQuery(test_case_id=name, **msgspec.structs.asdict(query))


class Page(Struct, Generic[T], frozen=True):
    """A part of a list. `total_count` counts all that pass the filters; a page beyond the end has no items."""

    items: list[T]
    total_count: int
    page: int
    page_size: int
    total_pages: int
    has_next: bool
    has_previous: bool


def paging(total: int, page: int, page_size: int) -> dict[str, Any]:
    """The fields of this page (counted from 1) of so many things, without its items."""
    total_pages = -(-total // page_size)
    return {
        "total_count": total,
        "page": page,
        "page_size": page_size,
        "total_pages": total_pages,
        "has_next": page < total_pages,
        "has_previous": page > 1,
    }


def part_of(things: Sequence[T], page: int, page_size: int) -> Sequence[T]:
    """The things on the page (counted from 1)."""
    return things[(page - 1) * page_size : page * page_size]
