"""The project itself: `bugninja.toml` -> `Project`. The shape of the file is Bugninja 0.1.6's."""

import logging
import tomllib
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from runner.errors import ProjectGone
from runner.files import UNKNOWN, file_identity, is_folder, read_file, read_if_there, utc_time
from runner.log import log_event


class Project(Struct, frozen=True):
    """The project itself. Both times are when its file last changed (UTC); Bugninja writes no others."""

    name: str
    default_start_url: str
    created_at: datetime
    updated_at: datetime


def read_project(root: Path) -> Project:
    """The content of `bugninja.toml`; a project without one, or with a broken one, is named after its folder."""
    table: Any = None
    changed = (file_identity(root) or UNKNOWN)[1] / 1e9
    with suppress(OSError, ValueError, RecursionError):
        content, changed = read_file(root / "bugninja.toml", root)
        table = tomllib.loads(content.decode("utf-8-sig")).get("project")
    modified = utc_time(changed)
    fields = table if isinstance(table, dict) else {}
    name, url = fields.get("name"), fields.get("default_start_url")
    return Project(
        name=name if isinstance(name, str) and name.strip() else root.name,
        default_start_url=url if isinstance(url, str) else "",
        created_at=modified,
        updated_at=modified,
    )


class RetentionPolicy(NamedTuple):
    """Which runs keep their files: of each task the last `keep_last_runs` by the agent, the last `keep_last_runs`
    replays, and all that are younger than `max_age_days`. The defaults are Bugninja's."""

    max_age_days: int = 14
    keep_last_runs: int = 2
    cleanup_traversals: bool = True


def read_retention_policy(root: Path) -> RetentionPolicy | None:
    """`[retention_policy]` of `bugninja.toml`; None without one. One that cannot be used is logged, and none."""
    problem = "bugninja.toml cannot be read"
    with suppress(OSError, ValueError, RecursionError):
        table = tomllib.loads((read_if_there(root / "bugninja.toml", root) or b"").decode("utf-8-sig"))
        found = table.get("retention_policy")
        if found is None:
            return None
        problem = "it must be a table"
        if isinstance(found, dict):
            policy = RetentionPolicy(**{key: found[key] for key in RetentionPolicy._fields if key in found})
            problem = _problem(policy)
            if not problem:
                return policy
    log_event("retention_policy_ignored", level=logging.WARNING, error=problem)
    return None


def _problem(policy: RetentionPolicy) -> str:
    """Why the policy cannot be used; empty if it can."""
    for name, value in (("max_age_days", policy.max_age_days), ("keep_last_runs", policy.keep_last_runs)):
        if type(value) is not int or value < 0:
            return f"{name} must be an integer from 0 on, got {value!r}"
    if policy.cleanup_traversals is not True:
        return f"cleanup_traversals must be true, got {policy.cleanup_traversals!r}: traversals are always deleted, too"
    return ""


def check_project(tasks_root: Path) -> None:
    """See that the project is there. Raises `ProjectGone`."""
    if not is_folder(tasks_root):
        raise ProjectGone
