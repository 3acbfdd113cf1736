"""Traversal JSON text -> frozen `Traversal`. Pure, and an allow-list: keys that are not named here are left out.

Secrets are taken out of the named ones, too: an agent repeats them in its thoughts.

The shape of the file is Bugninja 0.1.6's. A field of another type than expected is treated as missing, so that one odd
value does not hide the rest of a run.
"""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from runner.errors import TraversalBroken
from runner.redaction import NOTHING_SECRET, Redactor, Secret
from runner.secrets import secrets_of_traversal

FileStatus = Literal["PENDING", "SUCCESSFUL", "FAILED"]
Parameter = str | int | float | bool | None

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
ACTION_KEY = re.compile(r"action_(\d{1,9})")
# The names that decide what a run is: a secret that is one of them must not turn a failure into a success.
KEYS = frozenset(
    {
        "action",
        "brain_state_id",
        "dom_element_data",
        "screenshot_filename",
        "xpath",
        "evaluation_previous_goal",
        "memory",
        "next_goal",
        "done",
        "text",
        "success",
        "go_to_url",
        "url",
        "input_text",
        "click_element_by_index",
        "index",
    }
)
MAX_TEXT = 100_000  # characters kept of one text of a step


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


NOTHING_YET = Reading(None, None, None)


def parse_traversal(content: bytes, secrets: Iterable[Secret] | None = ()) -> Traversal:
    """The traversal in this UTF-8 JSON, without these secrets and without those that it names itself.

    With None for `secrets` all of them stay in it, which is faster; such a traversal must not be shown.

    Raises `TraversalBroken` if it is half a file, no JSON, or no traversal.
    """
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise TraversalBroken(f"it is not whole JSON ({error})") from None
    except UnicodeDecodeError:
        raise TraversalBroken("it is not UTF-8 text") from None
    except RecursionError:
        raise TraversalBroken("its JSON is nested too deep") from None
    if not isinstance(document, dict):
        raise TraversalBroken(f"it must hold a JSON object, got a JSON {_json_name(document)}")
    if not isinstance(document.get("actions"), dict) or not isinstance(document.get("brain_states"), dict):
        raise TraversalBroken("it lacks the objects 'actions' and 'brain_states'")
    redactor = NOTHING_SECRET if secrets is None else Redactor([*secrets, *secrets_of_traversal(document)])
    clean = partial(redactor.value, kept=KEYS)
    return Traversal(
        status=status if (status := document.get("status")) in ("PENDING", "SUCCESSFUL", "FAILED") else None,
        is_replay=document.get("run_type") == "REPLAY",
        brain_states=tuple(
            _brain_state(clean(key), clean(value))
            for key, value in document["brain_states"].items()
            if isinstance(value, dict)
        ),
        actions=tuple(_action(number, clean(value)) for number, value in _numbered(document["actions"])),
    )


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


def _action(number: int, value: dict[str, Any]) -> Action:
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
        brain_state_id=_text(value.get("brain_state_id")),
        kind=kind,
        parameters=_parameters(kind, parameters),
        xpath=(_text(element.get("xpath")) or None) if isinstance(element, dict) else None,
        screenshot=_text(value.get("screenshot_filename")) or None,
    )


def _parameters(kind: str, parameters: dict[str, Any]) -> dict[str, Parameter]:
    kept: dict[str, Parameter] = {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in parameters.items()
        if NAME.fullmatch(name) and isinstance(value, str | int | float | bool | None)
    }
    if kind == "input_text":  # the front end's page breaks on anything but a text
        kept["text"] = _text(kept.get("text"))
    return kept


def _brain_state(key: str, value: dict[str, Any]) -> BrainState:
    return BrainState(
        id=key,
        evaluation_previous_goal=_text(value.get("evaluation_previous_goal")),
        memory=_text(value.get("memory")),
        next_goal=_text(value.get("next_goal")),
    )


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""
