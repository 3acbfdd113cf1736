"""The project itself: `bugninja.toml` -> `Project`. The shape of the file is Bugninja 0.1.6's."""

import tomllib
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import ProjectGone
from runner.files import UNKNOWN, file_identity, is_folder, read_file, utc_time


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


def check_project(tasks_root: Path) -> None:
    """See that the project is there. Raises `ProjectGone`."""
    if not is_folder(tasks_root):
        raise ProjectGone
