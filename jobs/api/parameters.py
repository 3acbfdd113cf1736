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

from jobs.run.record import UNPARSABLE
from runner.errors import Invalid, printable

Q = TypeVar("Q", bound=Struct)

MAX_WAIT = 60
MAX_KEY = 255  # characters of an Idempotency-Key
MAX_LABELS = 16
MAX_LABEL = 200  # characters of a label's value
LABEL_KEY = "[a-z0-9_.-]{1,32}"
Labels = Annotated[
    dict[Annotated[str, Meta(pattern=f"^{LABEL_KEY}$")], Annotated[str, Meta(max_length=MAX_LABEL)]],
    Meta(max_length=MAX_LABELS, description="to find the run by; a rerun without labels has those of its original"),
]
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


def parse_body(content: bytes) -> RunBody:
    """The body of a call that starts a run, checked. Raises `Invalid`, which names the bad field or label."""
    try:
        fields = msgspec.json.decode(content, type=dict[str, Any] | None) or {}
    except UNPARSABLE as error:
        raise Invalid(f"The body must be a JSON object, got something else ({printable(str(error), 200)}).") from None
    if unknown := fields.keys() - RunBody.__struct_fields__:
        got = printable(", ".join(sorted(unknown)))
        raise Invalid(f"The body must have no other fields than labels and trigger, got '{got}'.")
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
