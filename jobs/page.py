"""Parameters of a query, and pages of a list. Pure: texts from outside -> checked values, in one place."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import NoneType
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from jobs.document import RunType, State
from runner.errors import Invalid
from runner.ids import shown

S = TypeVar("S")
T = TypeVar("T")
Q = TypeVar("Q", bound=Struct)

MAX_PAGE = 1_000_000
MAX_PAGE_SIZE = 200
MAX_WAIT = 60
SortOrder = Literal["asc", "desc"]

PageNumber = Annotated[int, Meta(ge=1, le=MAX_PAGE, description=f"a whole number from 1 to {MAX_PAGE}")]
PageSize = Annotated[int, Meta(ge=1, le=MAX_PAGE_SIZE, description=f"a whole number from 1 to {MAX_PAGE_SIZE}")]
Order = Annotated[SortOrder, Meta(description="asc or desc")]
Search = Annotated[str, Meta(max_length=200, description="a text of at most 200 characters")]
TaskName = Annotated[
    str, Meta(pattern="^[a-z0-9_]{1,128}$", description="the name of a task's folder, or the CUID of a task")
]
ProjectName = Annotated[str, Meta(min_length=1, max_length=200, description="the ID of the project")]
Flag = Annotated[bool, Meta(description="true or false")]
Seconds = Annotated[int, Meta(ge=0, le=MAX_WAIT, description=f"a whole number of seconds from 0 to {MAX_WAIT}")]
Offset = Annotated[int, Meta(ge=0, le=10**15, description="a whole number from 0")]

STATES_OF: Mapping[str, frozenset[State]] = {
    "FINISHED": frozenset({State.FINISHED}),
    "PASSED": frozenset({State.FINISHED}),
    "FAILED": frozenset({State.FAILED, State.ERROR}),
    "ERROR": frozenset({State.ERROR}),
    "PENDING": frozenset({State.PENDING, State.RUNNING}),
    "RUNNING": frozenset({State.RUNNING}),
}
"""The states that each word of a filter finds. The front end has three words, and shows an ERROR as failed and a
RUNNING run as pending: what it shows under a word, that word has to find."""

StatusWord = Annotated[
    Literal["FINISHED", "PASSED", "FAILED", "ERROR", "PENDING", "RUNNING"],
    Meta(description="FINISHED or PASSED; FAILED (with ERROR) or ERROR; PENDING (with RUNNING) or RUNNING"),
]
RunTypeWord = Annotated[RunType, Meta(description="AGENTIC, REPLAY or REPLAY_WITH_HEALING")]


class NoQuery(Struct, frozen=True):
    """A call without parameters."""


class HealingQuery(Struct, frozen=True):
    """How to replay."""

    healing: Flag = False


class WaitQuery(Struct, frozen=True):
    """How many seconds to wait for a change."""

    wait: Seconds = 0


class LogQuery(Struct, frozen=True):
    """Which part of a log: its last `tail` lines, or what comes after `offset` bytes."""

    tail: Offset | None = None
    offset: Offset | None = None


class PartQuery(Struct, frozen=True):
    """A part of a list that has no envelope; all of it without these."""

    page: PageNumber = 1
    page_size: PageSize = MAX_PAGE_SIZE


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


class RunListQuery(RunsOfTaskQuery, frozen=True):
    """The same for the runs of all tasks, or of one."""

    test_case_id: TaskName | None = None
    project_id: ProjectName | None = None


def of_task(name: str, query: RunsOfTaskQuery) -> RunListQuery:
    """The query for the runs of this task."""
    return RunListQuery(test_case_id=name, **msgspec.structs.asdict(query))


class Page(Struct, Generic[T], frozen=True):
    """A part of a list. `total_count` counts what the filters let through; a page beyond the end has no items."""

    items: list[T]
    total_count: int
    page: int
    page_size: int
    total_pages: int
    has_next: bool
    has_previous: bool


def page_of(things: Sequence[S], page: int, page_size: int, show: Callable[[S], T]) -> Page[T]:
    """The page (counted from 1) of these things; `show` makes the item of one."""
    total_pages = -(-len(things) // page_size)
    return Page(
        items=[show(thing) for thing in part_of(things, page, page_size)],
        total_count=len(things),
        page=page,
        page_size=page_size,
        total_pages=total_pages,
        has_next=page < total_pages,
        has_previous=page > 1,
    )


def part_of(things: Sequence[T], page: int, page_size: int) -> Sequence[T]:
    """The things on the page (counted from 1)."""
    return things[(page - 1) * page_size : page * page_size]


def parse_query(kind: type[Q], parameters: Mapping[str, str]) -> Q:
    """The parameters that `kind` knows, checked; others are passed over. Raises `Invalid`, which names the bad one.

    The description of a field's type is what its error says that was expected.
    """
    types = _types(kind)
    values = {}
    for name, text in parameters.items():
        if name in types:
            try:
                values[name] = msgspec.convert(text, types[name], strict=False)
            except msgspec.ValidationError:
                expected = schema_of(types[name])["description"]
                raise Invalid(f"{name} is '{shown(text)}'; expected is {expected}.") from None
    return kind(**values)


@cache
def _types(kind: type[Struct]) -> Mapping[str, Any]:
    """The name of each parameter, and the type that it has when it is there."""
    return {field.name: given(field.type) for field in msgspec.structs.fields(kind)}


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a parameter of this type."""
    schema = msgspec.json.schema(given(kind))
    (shared,) = schema.pop("$defs", {"": {}}).values()
    return {**shared, **{key: value for key, value in schema.items() if key != "$ref"}}


def given(kind: Any) -> Any:
    """The type of a parameter that is there: `kind` without None, which stands for one that is not."""
    return next((part for part in get_args(kind) if get_args(kind)[-1] is NoneType), kind)
