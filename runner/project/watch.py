"""File system events of folders. Local disks have them, most shared ones do not."""

import logging
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

QUICK_MS, SLOW_MS = 1, 50  # between two looks at the events; the first costs two hundredths of a core
SETTLE_MS = 10  # the longest that a stream of changes is collected, or as long as between two looks
IDLE_MS = 500  # without any change until an empty set is yielded, so that the caller can look around


async def watch(folders: Iterable[Path], *, quick: bool) -> AsyncIterator[frozenset[Path]]:
    """The paths in these folders (not in folders below them) that have just changed; an empty set when none has.

    Raises `OSError` if they cannot be watched.
    """
    from watchfiles import awatch  # takes 4 MB of memory, which only those pay who watch

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it would log each change
    step = QUICK_MS if quick else SLOW_MS
    changes = awatch(
        *folders,
        watch_filter=None,
        debounce=max(SETTLE_MS, step),
        step=step,
        rust_timeout=IDLE_MS,
        yield_on_timeout=True,
        recursive=False,
        ignore_permission_denied=True,
    )
    async for found in changes:
        yield frozenset(Path(path) for _, path in found)
