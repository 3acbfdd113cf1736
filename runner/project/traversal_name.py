"""The names of traversal files: `traverse_YYYYMMDD_HHMMSS_RUNID.json`, with local time (Bugninja 0.1.6). Pure."""

import re
from datetime import UTC, datetime

from runner.ids import RunId, parse_run_id

SUFFIX = ".json"
STAMP = re.compile(r"traverse_(\d{8}_\d{6})_")


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
