"""Which traversal file is a run's: its own, or, where the CLI did not keep our ID, the one that it adopts."""

from pathlib import Path

from redis import Redis

from runner.ids import RunId
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder

SEARCHED_BYTES = 256 * 1024  # of the beginning and of the end of the log


def adoption_key(traversal_id: RunId) -> str:
    """The Redis key that holds the run which has adopted a foreign traversal file."""
    return f"bugninja-runner:claim:{traversal_id}"


class FileSearch:
    """Looks for the file of one run. Make it before the CLI starts: files that are there by then belong to others."""

    def __init__(self, files: RunFiles, folder: RunFolder, redis: Redis, ttl: int) -> None:
        self._files, self._folder = files, folder
        self._redis, self._ttl = redis, ttl
        self._before = frozenset(files.traversal_ids(folder.task_id))

    def find(self, *, cli_ended: bool) -> RunId | None:
        """The ID in the name of the run's file; None if there is none yet.

        A file under another ID is adopted when the CLI's output names it; after the CLI's end also when it is the only
        one that appeared. The entry in Redis is atomic: no file is adopted twice.
        """
        ids = self._files.traversal_ids(self._folder.task_id)
        if self._folder.run_id in ids:
            return self._folder.run_id
        strangers = [found for found in ids if found not in self._before and not self._is_another_runs(found)]
        named = [found for found in strangers if self._log_names(found)]
        chosen = named if len(named) == 1 else strangers if cli_ended and not named else []
        return chosen[0] if len(chosen) == 1 and self._adopt(chosen[0]) else None

    def _is_another_runs(self, traversal_id: RunId) -> bool:
        if self._files.folder(self._folder.task_id, traversal_id).path.exists():
            return True
        owner = self._redis.get(adoption_key(traversal_id))
        return owner not in (None, self._folder.run_id.encode())

    def _adopt(self, traversal_id: RunId) -> bool:
        run_id, key = self._folder.run_id, adoption_key(traversal_id)
        is_new = self._redis.set(key, run_id, nx=True, ex=self._ttl)
        if not is_new and self._redis.get(key) != run_id.encode():
            return False
        log_event("adopted", run=run_id, task=self._folder.task_id, traversal=traversal_id)
        return True

    def _log_names(self, traversal_id: RunId) -> bool:
        return traversal_id.encode() in _ends(self._folder.log)


def _ends(path: Path) -> bytes:
    """The beginning and the end of the file; nothing if it does not exist."""
    try:
        with path.open("rb") as file:
            start = file.read(SEARCHED_BYTES)
            file.seek(max(len(start), path.stat().st_size - SEARCHED_BYTES))
            return start + file.read(SEARCHED_BYTES)
    except FileNotFoundError:
        return b""
