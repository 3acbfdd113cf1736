"""The project itself: `bugninja.toml` -> `Project`. The shape of the file is Bugninja 0.1.6's."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from runner.errors import ProjectGone


class Project(Struct, frozen=True):
    """The project itself. Both times are when its file last changed (UTC); Bugninja writes no others."""

    name: str
    default_start_url: str
    created_at: datetime
    updated_at: datetime


def read_project(root: Path) -> Project:
    """The content of `bugninja.toml`; a project without one, or with a broken one, is named after its folder."""
    path = root / "bugninja.toml"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        document = {}
    modified = datetime.fromtimestamp((path if path.exists() else root).stat().st_mtime, UTC)
    table = document.get("project")
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
    if not tasks_root.is_dir():
        raise ProjectGone
