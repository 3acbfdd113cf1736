"""Makes an unmodified Bugninja keep our run ID. Python imports a module of this name at every start.

This folder stands first on the PYTHONPATH of the CLI, so this file runs in every Python program below it: it must be
silent and harmless, whatever that program is. It imports the next `sitecustomize` on the path, waits for the two
modules of Bugninja in which a run gets its ID (seen in 0.1.6), and steps in between. Anything unexpected there leaves
Bugninja as it is; the runner then finds the run's file in another way.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.abc import Loader, MetaPathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:  # nothing is imported that a program does not need
    from collections.abc import Callable, Mapping
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

RESOLVER = "bugninja_cli.utils.task_resolver"
EXECUTOR = "bugninja_cli.utils.task_executor"


def note_kept() -> None:
    """Tell the runner that the CLI has our ID, so that its file can have no other name."""
    path = os.path.join(os.environ["BUGNINJA_RUN_FOLDER"], "kept-id")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def keep_run_id(task: Any) -> Any:
    """Give the task our ID if it is the one that we asked for; a CLI that honours the ID itself has done so."""
    try:
        if task.task_config_path.parent.name == os.environ["BUGNINJA_TASK_ID"]:
            task.run_id = os.environ["BUGNINJA_RUN_ID"]
            note_kept()
    except Exception:  # noqa: BLE001 S110 (another version of Bugninja: it goes on without us)
        pass
    return task


def patch_resolver(module: Any) -> None:
    """Runs: the task that `resolve_task_ref` gives carries the ID of its run."""
    original = module.CLITaskResolver.resolve_task_ref

    def resolve_task_ref(self: Any, *args: Any, **kwargs: Any) -> Any:
        return keep_run_id(original(self, *args, **kwargs))

    module.CLITaskResolver.resolve_task_ref = resolve_task_ref


def patch_executor(module: Any) -> None:
    """Replays: `replay_traversal` takes a run ID that the command line does not pass on."""
    patch_lookup(module)
    original = module.TaskExecutor.replay_traversal
    code = original.__code__
    if "run_id" not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return

    def replay_traversal(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("run_id", os.environ["BUGNINJA_RUN_ID"])
        try:  # noqa: SIM105
            note_kept()
        except Exception:  # noqa: BLE001 S110 (its folder is gone)
            pass
        return original(self, *args, **kwargs)

    module.TaskExecutor.replay_traversal = replay_traversal


def patch_lookup(module: Any) -> None:
    """Replays of one run: Bugninja looks for its traversal in `traversals/` only, but writes it below `tasks/TASK/`."""
    original = module.TaskExecutor.find_traversal_by_id

    def find_traversal_by_id(traversal_id: str, project_root: Any) -> Any:
        try:
            return original(traversal_id, project_root)
        except FileNotFoundError:
            folder = project_root / "tasks" / os.environ["BUGNINJA_TASK_ID"] / "traversals"
            found = list(folder.glob("traverse_*_" + traversal_id + ".json"))
            if len(found) != 1:
                raise
            return found[0]

    module.TaskExecutor.find_traversal_by_id = staticmethod(find_traversal_by_id)


class Patched(Loader):
    """Loads a module as its own loader does, then patches it."""

    def __init__(self, loader: Loader, patch: Callable[[Any], None]) -> None:
        self.loader, self.patch = loader, patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module; a patch that does not fit leaves it as it is."""
        self.loader.exec_module(module)
        try:  # noqa: SIM105
            self.patch(module)
        except Exception:  # noqa: BLE001 S110 (names that do not exist in this version)
            pass

    def __getattr__(self, name: str) -> Any:
        """All else (source, resources) is the own loader's."""
        return getattr(self.loader, name)


class Finder(MetaPathFinder):
    """Finds only the modules that are to be patched, once each, through all the other finders."""

    def __init__(self, patches: dict[str, Any]) -> None:
        self.patches = patches

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The module's own spec with our loader around its own; None for every other module."""
        patch = self.patches.pop(name, None)
        if patch is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = Patched(spec.loader, patch)
        return spec


def install(environ: Mapping[str, str]) -> None:
    """Wait for Bugninja's modules, if the environment says that this is a run of ours, or the template of runs."""
    if (environ.get("BUGNINJA_RUN_ID") and environ.get("BUGNINJA_TASK_ID")) or "BUGNINJA_TEMPLATE" in environ:
        sys.meta_path.insert(0, Finder({RESOLVER: patch_resolver, EXECUTOR: patch_executor}))


def import_next() -> None:
    """Import the `sitecustomize` that would have been imported without us."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100 PTH120 (nothing is imported needlessly here)
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]  # noqa: PTH100
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


install(os.environ)
import_next()
