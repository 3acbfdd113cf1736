"""Traversal JSON text -> frozen `Traversal`. Pure, and an allow-list: keys that are not named here are left out.

Secrets are taken out of the named ones, too: an agent repeats them in its thoughts.

The shape of the file is Bugninja 0.1.6's. A field of another type than expected is treated as missing, so that one odd
value does not hide the rest of a run.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from runner.errors import TraversalBroken
from runner.ids import RunId, parse_run_id
from runner.redaction import NOTHING_SECRET, Redactor
from runner.secrets import NO_NAMES, SecretNames, secrets_of_traversal

FileStatus = Literal["PENDING", "SUCCESSFUL", "FAILED"]
Parameter = str | int | float | bool | None
Clean = Callable[[str], str]

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
ACTION_KEY = re.compile(r"action_(\d{1,9})")
# The shapes that IDs and paths have in files of 0.1.6; there is no text of a page in them.
IDENTITY = re.compile(r"[a-z0-9]{24}")
ELEMENT_PATH = re.compile(r"/?html(?:/[a-z][a-z0-9-]{0,63}(?:\[\d{1,9}\])?){0,200}")
PICTURE_PATH = re.compile(r"screenshots/[a-z0-9_-]{1,64}/\d{1,9}_[a-z_]{1,64}(?:_\d{8}_\d{6})?\.png")
SURROGATE = re.compile("[\ud800-\udfff]")
MAX_TEXT = 100_000  # characters kept of one text of a step
SUFFIX = ".json"
STAMP = re.compile(r"traverse_(\d{8}_\d{6})_")  # and local time, in the name of the file


class Action(Struct, frozen=True):
    """One thing that the agent did. `number` is its place in the run, `kind` Bugninja's name for the action."""

    number: int
    brain_state_id: str
    kind: str
    parameters: dict[str, Parameter]
    xpath: str | None
    screenshot: str | None


class BrainState(Struct, frozen=True):
    """What the agent thought before it acted."""

    id: str
    evaluation_previous_goal: str
    memory: str
    next_goal: str


class Traversal(Struct, frozen=True):
    """The steps of one run so far. `status` is None in files of Bugninja versions that do not write one."""

    status: FileStatus | None
    is_replay: bool
    brain_states: tuple[BrainState, ...]
    actions: tuple[Action, ...]

    @property
    def success(self) -> bool | None:
        """What the agent said when it was done; None if it has not said that it is done."""
        last = self.actions[-1] if self.actions else None
        if last is None or last.kind != "done":
            return None
        return last.parameters.get("success", True) is not False

    @property
    def verdict_text(self) -> str | None:
        """The agent's own words when it was done."""
        text = self.actions[-1].parameters.get("text") if self.success is not None else None
        return text if isinstance(text, str) and text.strip() else None


class Reading(NamedTuple):
    """The content of a traversal file at one time."""

    traversal: Traversal | None
    """The newest whole content that was seen; None if there was none yet."""
    problem: str | None
    """Why the present content cannot be used; None if it can."""
    modified: float | None
    """When the file last changed, in seconds since 1970; None if it is not there."""
    name: str = ""
    """The file's name; empty if it is not there."""
    is_no_file: bool = False
    """Whether it cannot be read at all (it is a link, or another user's), so that there is nothing to wait for."""


NOTHING_YET = Reading(None, None, None)


def traversal_to_json(traversal: Traversal) -> bytes:
    """The traversal as the CLI would have written it, of which `parse_traversal` makes the same one again."""
    document = {
        "status": traversal.status,
        "run_type": "REPLAY" if traversal.is_replay else "AGENTIC",
        "brain_states": {thought.id: thought for thought in traversal.brain_states},
        "actions": {
            f"action_{action.number}": {
                "brain_state_id": action.brain_state_id,
                "action": {action.kind: action.parameters},
                "dom_element_data": {"xpath": action.xpath},
                "screenshot_filename": action.screenshot,
            }
            for action in traversal.actions
        },
    }
    return msgspec.json.encode(document)


def parse_traversal(
    content: bytes, redactor: Redactor | None = NOTHING_SECRET, names: SecretNames = NO_NAMES
) -> Traversal:
    """The traversal in this UTF-8 JSON, without the secrets of the redactor and without those that it names itself.

    With None for `redactor` all of them stay in it, which is faster; such a traversal must not be shown. Only texts
    are changed: never numbers, the names of actions and parameters, and IDs and paths that have their usual shape.

    Raises `TraversalBroken` if it is half a file, no JSON, or no traversal.
    """
    document = _decode(content)
    if not isinstance(document, dict):
        raise TraversalBroken(f"it must hold a JSON object, got a JSON {_json_name(document)}")
    if not isinstance(document.get("actions"), dict) or not isinstance(document.get("brain_states"), dict):
        raise TraversalBroken("it lacks the objects 'actions' and 'brain_states'")
    clean = unchanged if redactor is None else redactor.with_secrets(secrets_of_traversal(document, names)).text
    return Traversal(
        status=status if (status := document.get("status")) in ("PENDING", "SUCCESSFUL", "FAILED") else None,
        is_replay=document.get("run_type") == "REPLAY",
        brain_states=tuple(
            _brain_state(key, value, clean)
            for key, value in document["brain_states"].items()
            if isinstance(value, dict)
        ),
        actions=tuple(_action(number, value, clean) for number, value in _numbered(document["actions"])),
    )


def unchanged(text: str) -> str:
    """The text itself."""
    return text


def _decode(content: bytes) -> Any:
    """What the JSON says. Raises `TraversalBroken`.

    Python writes, and reads, more than JSON has: NaN and infinities, numbers that are too large for a float, halves of
    surrogate pairs. What JSON cannot say becomes null, or U+FFFD in a text; so do bytes that are not UTF-8.
    """
    try:
        return msgspec.json.decode(content)
    except RecursionError:
        raise TraversalBroken("its JSON is nested too deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = error
    if not content.rstrip().endswith(b"}"):  # half a file; nothing of the sort is read twice
        raise TraversalBroken(f"it is not whole JSON ({problem})")
    try:
        return _sayable(json.loads(content.decode("utf-8-sig", errors="replace")))
    except ValueError as error:  # also a number of thousands of digits
        raise TraversalBroken(f"it is not whole JSON ({error})") from None
    except RecursionError:
        raise TraversalBroken("its JSON is nested too deep") from None


def _sayable(value: Any) -> Any:
    """The same without what JSON cannot say."""
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {SURROGATE.sub("\ufffd", key): _sayable(item) for key, item in value.items()}
    return [*map(_sayable, value)] if isinstance(value, list) else value


def _json_name(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def _numbered(table: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """The actions by their number: `action_10` comes after `action_9`."""
    numbered = [
        (int(found.group(1)), value)
        for key, value in table.items()
        if (found := ACTION_KEY.fullmatch(key)) and isinstance(value, dict)
    ]
    return sorted(numbered, key=lambda pair: pair[0])


def _action(number: int, value: dict[str, Any], clean: Clean) -> Action:
    types = value.get("action")
    used = (
        (kind, parameters if isinstance(parameters, dict) else {})
        for kind, parameters in (types.items() if isinstance(types, dict) else ())
        if parameters is not None and NAME.fullmatch(kind)
    )
    kind, parameters = next(used, ("unknown", {}))
    element = value.get("dom_element_data")
    return Action(
        number=number,
        brain_state_id=_shaped(value.get("brain_state_id"), IDENTITY, clean),
        kind=kind,
        parameters=_parameters(kind, parameters, clean),
        xpath=(_shaped(element.get("xpath"), ELEMENT_PATH, clean) or None) if isinstance(element, dict) else None,
        screenshot=_shaped(value.get("screenshot_filename"), PICTURE_PATH, clean) or None,
    )


def _parameters(kind: str, parameters: dict[str, Any], clean: Clean) -> dict[str, Parameter]:
    kept: dict[str, Parameter] = {
        name: _text(value, clean) if isinstance(value, str) else value
        for name, value in parameters.items()
        if NAME.fullmatch(name) and isinstance(value, str | int | float | bool | None)
    }
    if kind == "input_text":  # the front end's page breaks on anything but a text
        kept["text"] = text if isinstance(text := kept.get("text"), str) else ""
    return kept


def _brain_state(key: str, value: dict[str, Any], clean: Clean) -> BrainState:
    return BrainState(
        id=_shaped(key, IDENTITY, clean),
        evaluation_previous_goal=_text(value.get("evaluation_previous_goal"), clean),
        memory=_text(value.get("memory"), clean),
        next_goal=_text(value.get("next_goal"), clean),
    )


def _shaped(value: Any, shape: re.Pattern[str], clean: Clean) -> str:
    """The text as it is if it has its usual shape, in which there is no text of a page; else without secrets."""
    return value if isinstance(value, str) and shape.fullmatch(value) else _text(value, clean)


def _text(value: Any, clean: Clean) -> str:
    return clean(value)[:MAX_TEXT] if isinstance(value, str) else ""


def traversal_run_id(name: str) -> RunId | None:
    """The run ID in the name of a traversal file (Bugninja: what follows the last `_`), or None for other files."""
    if not name.startswith("traverse_") or not name.endswith(SUFFIX):
        return None
    return parse_run_id(name.removesuffix(SUFFIX).rpartition("_")[2])


def started_at(name: str) -> datetime | None:
    """When the CLI began, in UTC, from its file's name (local time there); None if it is not in it."""
    found = STAMP.match(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found.group(1), "%Y%m%d_%H%M%S").astimezone(UTC)
    except (ValueError, OverflowError):  # the first day that there is
        return None
