"""Which traversal file is a run's: its own, or, where the CLI did not keep our ID, the one that it adopts."""

from runner.files import file_identity, read_ends
from runner.ids import RunId
from runner.log import log_event
from runner.project.adoption import adopt, adopter
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder

SEARCHED_BYTES = 256 * 1024  # of the beginning and of the end of the log


class FileSearch:
    """Looks for the file of one run. Make it before the CLI starts: files that are there by then belong to others."""

    def __init__(self, files: RunFiles, folder: RunFolder) -> None:
        self._files, self._folder = files, folder
        self._before = frozenset(files.traversal_ids(folder.task_id))

    def find(self, *, cli_succeeded: bool) -> RunId | None:
        """The ID in the name of the run's file; None if there is none yet. Raises `OSError`.

        A file under another ID is adopted when the CLI's output names it. After a CLI that ended with exit code 0 it is
        also adopted when it is the only one that appeared, unless the CLI had our ID: then somebody else wrote it. No
        file is adopted twice.
        """
        ids = self._files.traversal_ids(self._folder.task_id)
        if self._folder.run_id in ids:
            return self._folder.run_id
        strangers = [found for found in ids if found not in self._before and not self._is_another_runs(found)]
        chosen = [found for found in strangers if self._log_names(found)]
        if not chosen and cli_succeeded and file_identity(self._folder.kept_id) is None:
            chosen = strangers
        return chosen[0] if len(chosen) == 1 and self._adopt(chosen[0]) else None

    def _is_another_runs(self, traversal_id: RunId) -> bool:
        if self._files.tasks_with_record(traversal_id):
            return True
        owner = adopter(self._files.tasks_root, self._folder.task_id, traversal_id)
        return owner not in (None, self._folder.run_id)

    def _adopt(self, traversal_id: RunId) -> bool:
        run_id, task_id = self._folder.run_id, self._folder.task_id
        if not adopt(self._files.tasks_root, task_id, traversal_id, run_id):
            return False
        log_event("adopted", run=run_id, task=task_id, traversal=traversal_id)
        return True

    def _log_names(self, traversal_id: RunId) -> bool:
        return traversal_id.encode() in read_ends(self._folder.log, self._folder.tasks_root, SEARCHED_BYTES)
