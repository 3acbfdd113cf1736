"""Parameters, headers and bodies: texts from outside -> checked values. Pure.

The filters of lists are declared in `jobs/status/query.py`.
"""

import re
from collections.abc import Mapping, Sized
from datetime import datetime
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Struct

from jobs.queue.batches import Wanted
from jobs.run.batch import Mode
from jobs.run.record import UNPARSABLE
from runner.errors import Invalid, printable

Q = TypeVar("Q", bound=Struct)

MAX_WAIT = 60
NO_BODY = b"{}"
MAX_KEY = 255  # characters of an Idempotency-Key
MAX_LABELS = 16
MAX_LABEL = 200  # characters of a label's value
LABEL_KEY = "[a-z0-9_.-]{1,32}"
Labels = Annotated[
    dict[Annotated[str, Meta(pattern=f"^{LABEL_KEY}$")], Annotated[str, Meta(max_length=MAX_LABEL)]],
    Meta(max_length=MAX_LABELS, description="to find the run by; a rerun without labels has those of its original"),
]
Name = Annotated[str, Meta(max_length=200, description="a text of at most 200 characters")]
Names = Annotated[list[str], Meta(min_length=1, description="a list of names of tasks, one at least")]
TagGroups = Annotated[
    list[Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]],
    Meta(
        min_length=1,
        max_length=100,
        description='a list of at most 100 lists of tags, as [["smoke", "shop"], ["login"]]: all of one list',
    ),
]
Failures = Annotated[int, Meta(ge=1, le=10**6, description="an integer from 1, or null")]
ModeWord = Annotated[Mode, Meta(description="agentic, replay or heal")]
Flag = Annotated[bool, Meta(description="true or false")]
Seconds = Annotated[int, Meta(ge=0, le=MAX_WAIT, description=f"an integer from 0 to {MAX_WAIT} (seconds)")]
Offset = Annotated[int, Meta(ge=0, le=10**15, description="an integer from 0")]


class NoQuery(Struct, frozen=True):
    """A call without parameters."""


class HealingQuery(Struct, frozen=True):
    """How to replay."""

    healing: Flag = False


class WaitQuery(Struct, frozen=True):
    """How many seconds to wait for a change."""

    wait: Seconds = 0


class LogQuery(Struct, frozen=True):
    """Which part of a log: its last `tail` lines, or all that follows the first `offset` bytes."""

    tail: Offset | None = None
    offset: Offset | None = None


class RunBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a run is given when it is accepted."""

    labels: Labels | None = None
    trigger: Annotated[Literal["api", "ui"], Meta(description="ui if a person starts it on a page")] = "api"


class LabelsBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the runs of a batch that is rerun are given."""

    labels: Labels | None = None


class BatchBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a batch is to be: exactly one of `tasks`, `tags` and `all` says of which tasks."""

    tasks: Names | None = None
    tags: TagGroups | None = None
    all: Flag | None = None
    name: Name = ""
    labels: Labels | None = None
    mode: ModeWord = Mode.AGENTIC
    fail_fast: Failures | None = None


class RerunQuery(Struct, frozen=True):
    """Which runs of a batch."""

    only: Annotated[
        Literal["failed", "errored", "all"], Meta(description="failed (with those in ERROR), errored or all")
    ] = "all"


def check_empty(content: bytes) -> None:
    """See that a body says nothing. Raises `Invalid`."""
    if content.strip() not in (NO_BODY, b"null"):
        raise Invalid("The body must be empty or {}, got something else.")


def parse_labels(content: bytes) -> dict[str, str] | None:
    """The labels in the body of a call that takes nothing else. Raises `Invalid`."""
    return check_labels(_fields(content, LabelsBody).get("labels"))


def parse_batch(content: bytes) -> Wanted:
    """The body of a call that starts a batch, checked. Raises `Invalid`, which names the bad field."""
    fields = _fields(content, BatchBody)
    checked: dict[str, Any] = {
        name: check_labels(value) if name == "labels" else _field(name, value) for name, value in fields.items()
    }
    body = BatchBody(**checked)
    if [body.tasks is None, body.tags is None, not body.all].count(False) != 1:
        raise Invalid('The body must have exactly one of "tasks", "tags" and "all": true.')
    return Wanted(body.tasks, body.tags, bool(body.all), body.name, body.labels or {}, body.mode, body.fail_fast)


def _field(name: str, value: Any) -> Any:
    kind = _types(BatchBody)[name]
    if value is None:
        return next(field.default for field in msgspec.structs.fields(BatchBody) if field.name == name)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        got = printable(msgspec.json.encode(value).decode())
        raise Invalid(f"{name} must be {schema_of(kind)['description']}, got {got}.") from None


def _fields(content: bytes, kind: type[Struct]) -> dict[str, Any]:
    """The object that a body has. Raises `Invalid`, also for a field that this type has not."""
    try:
        fields = msgspec.json.decode(content, type=dict[str, Any] | None) or {}
    except UNPARSABLE as error:
        raise Invalid(f"The body must be a JSON object, got something else ({printable(str(error), 200)}).") from None
    if unknown := fields.keys() - {*kind.__struct_fields__}:
        known, got = ", ".join(kind.__struct_fields__), printable(", ".join(sorted(unknown)))
        raise Invalid(f"The body must have no other fields than {known}, got '{got}'.")
    return fields


def parse_body(content: bytes) -> RunBody:
    """The body of a call that starts a run, checked. Raises `Invalid`, which names the bad field or label."""
    fields = _fields(content, RunBody)
    trigger = fields.get("trigger", "api")
    if trigger not in ("api", "ui"):
        raise Invalid(f"trigger must be api or ui, got '{printable(str(trigger))}'.")
    return RunBody(check_labels(fields.get("labels")), trigger)


def check_labels(labels: Any) -> dict[str, str] | None:
    if labels is None:
        return None
    if not isinstance(labels, dict) or len(labels) > MAX_LABELS:
        raise Invalid(f"labels must be an object of at most {MAX_LABELS} texts, got {_amount(labels, dict)}.")
    for key, value in labels.items():
        if not re.fullmatch(LABEL_KEY, key):
            raise Invalid(f"The key of a label must be 1 to 32 of a-z, 0-9, '_', '.' and '-', got '{printable(key)}'.")
        if not isinstance(value, str) or len(value) > MAX_LABEL:
            expected = f"a text of at most {MAX_LABEL} characters"
            raise Invalid(f"The label '{key}' must be {expected}, got {_amount(value, str)}.")
    return labels


def _amount(value: Any, kind: type[Sized]) -> str:
    """How much it is that was given; the value itself may be a secret."""
    return f"{len(value)}" if isinstance(value, kind) else "something else"


def parse_query(kind: type[Q], parameters: Mapping[str, str]) -> Q:
    """The parameters that `kind` knows, checked; others are passed over. Raises `Invalid`, which names the bad one.

    The description of a field's type stands in its error message.
    """
    types = _types(kind)
    values = {}
    for name, text in parameters.items():
        if name in types:
            try:
                is_time = get_args(types[name])[:1] == (datetime,)  # which may also be a number, if it is not strict
                values[name] = msgspec.convert(text, types[name], strict=is_time)
            except msgspec.ValidationError:
                expected = schema_of(types[name])["description"]
                raise Invalid(f"{name} must be {expected}, got '{printable(text)}'.") from None
    return kind(**values)


@cache
def _types(kind: type[Struct]) -> Mapping[str, Any]:
    """The name of each parameter, and the type that it has when it is there."""
    return {field.name: without_none(field.type) for field in msgspec.structs.fields(kind)}


def schema_of(kind: Any) -> dict[str, Any]:
    """The JSON schema of a parameter of this type."""
    schema = msgspec.json.schema(without_none(kind))
    (shared,) = schema.pop("$defs", {"": {}}).values()
    return {**shared, **{key: value for key, value in schema.items() if key != "$ref"}}


def without_none(kind: Any) -> Any:
    """The type of a parameter that is there: `kind` without None, which stands for one that is not."""
    return next((part for part in get_args(kind) if get_args(kind)[-1] is NoneType), kind)


def check_idempotency_key(key: str | None) -> str | None:
    """The value of the Idempotency-Key header. Raises `Invalid` if it cannot be a key."""
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters, got '{printable(key)}'.")
    return key
