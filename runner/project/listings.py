"""The names in folders, listed again only when a folder has changed. May be used by several threads."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

SECOND_NS = 1_000_000_000
COARSE_TICK = 2.0  # the longest tick in seconds of a clock by which file systems stamp
FINE_TICK = 0.05  # of those that know parts of a second


class Listing(NamedTuple):
    """The entries of a folder at one time."""

    modified: int | None
    """When the folder last changed, in nanoseconds; None if it was not there."""
    seen: float
    """When that was first seen, on the clock `time.monotonic`: a file system may have the clock of another machine."""
    settled: bool
    """Whether no entry can be missing that came within the same tick of the file system's clock."""
    names: Mapping[str, str]
    """The key of each entry -> its name."""


class FolderListings:
    """The listings of folders, each with a function that gives the key of a name (None for names to ignore)."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}

    def names(self, folder: str, key: Callable[[str], str | None], *, keep_keys: bool = True) -> Mapping[str, str]:
        """The keys and names in the folder now: the very same mapping as before if nothing has changed.

        `keep_keys` says that the key of a name never changes, so that it need not be computed again.
        """
        modified = modified_at(folder)
        known = self._listings.get(folder)
        if known is None or not known.settled or known.modified != modified:
            now, present = time.monotonic(), [] if known is None else [*known.names.values()]
            seen = known.seen if known is not None and known.modified == modified else now
            settled = modified is None or now - seen > tick(modified)
            before = {name: found for found, name in known.names.items()} if known is not None and keep_keys else {}
            with suppress(OSError):
                present = entries(folder)
            names = {found: name for name in present if (found := before.get(name) or key(name)) is not None}
            same = known is not None and known.names == names
            known = Listing(modified, seen, settled, known.names if known is not None and same else names)
            self._listings[folder] = known
        return known.names


def modified_at(folder: str) -> int | None:
    """When an entry of the folder last came or went, in nanoseconds; None if it is not there."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def tick(modified: int) -> float:
    """Seconds after which a folder that last changed then has another time when it changes again.

    File systems that stamp whole seconds (or even ones) need two of them for that, others a tick of their clock.
    """
    return COARSE_TICK if modified % SECOND_NS == 0 else FINE_TICK


def entries(folder: str) -> list[str]:
    """The names in the folder now; none if it is not there. Raises `OSError` if that cannot be said."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
