"""The shim in real Python programs, with a stand-in package that has the shape of Bugninja's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.cli.command import SHIM
from tests.unit.cli.templates import Warm

RUN, TASK = "r" * 24, "buy"


RESOLVER = """
class Task:
    def __init__(self, path):
        self.task_config_path, self.run_id = path, "its-own"

class CLITaskResolver:
    def resolve_task_ref(self, task_ref):
        from pathlib import Path
        return Task(Path("tasks") / task_ref / f"task_{task_ref}.toml")
"""


HONOURING = RESOLVER.replace('"its-own"', '__import__("os").environ["BUGNINJA_RUN_ID"]')


EXECUTOR = """
import asyncio
class TaskExecutor:
    async def replay_traversal(self, path, enable_healing=False, run_id=None):
        return run_id
    @staticmethod
    def find_traversal_by_id(traversal_id, project_root):
        raise FileNotFoundError("no such traversal")
"""


SHOW_RUN = "from bugninja_cli.utils.task_resolver import CLITaskResolver as R; print(R().resolve_task_ref('{}').run_id)"


SHOW_REPLAY = (
    "import asyncio; from bugninja_cli.utils.task_executor import TaskExecutor as T; "
    "print(asyncio.run(T().replay_traversal('x')))"
)


SHOW_FOUND = (
    "from pathlib import Path; from bugninja_cli.utils.task_executor import TaskExecutor as T; "
    "print(T.find_traversal_by_id('{}', Path('.')).name)"
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The folder `bugninja_cli/utils` of a stand-in package."""
    folder = tmp_path / "bugninja_cli" / "utils"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        (path / "__init__.py").touch()
    return folder


def python(folder: Path, code: str, *more_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [SHIM, *more_path, folder]))
    ids = {"BUGNINJA_RUN_ID": RUN, "BUGNINJA_TASK_ID": TASK, "PYTHONPATH": path, **environ}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BUGNINJA", "PYTHON"))}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, env={**clean, **ids}, capture_output=True, text=True, check=False)


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_the_task_that_was_asked_for_keeps_our_id_and_a_dependency_its_own(package: Path, tmp_path: Path) -> None:
    (package / "task_resolver.py").write_text(RESOLVER)
    assert said(python(tmp_path, SHOW_RUN.format("buy"))) == RUN
    assert said(python(tmp_path, SHOW_RUN.format("login"))) == "its-own"


def test_a_replay_gets_our_id(package: Path, tmp_path: Path) -> None:
    (package / "task_executor.py").write_text(EXECUTOR)
    assert said(python(tmp_path, SHOW_REPLAY)) == RUN


def test_a_replay_of_a_version_without_run_ids_goes_on_without(package: Path, tmp_path: Path) -> None:
    without = EXECUTOR.replace(", run_id=None", "").replace("return run_id", "return 'its own'")
    (package / "task_executor.py").write_text(without)
    assert said(python(tmp_path, SHOW_REPLAY)) == "its own"


def test_a_traversal_is_found_where_bugninja_writes_it(package: Path, tmp_path: Path) -> None:
    (package / "task_executor.py").write_text(EXECUTOR)
    folder = tmp_path / "tasks" / TASK / "traversals"
    folder.mkdir(parents=True)
    name = f"traverse_20261123_080000_{'o' * 24}.json"
    (folder / name).touch()
    assert said(python(tmp_path, SHOW_FOUND.format("o" * 24))) == name
    missing = python(tmp_path, SHOW_FOUND.format("m" * 24))
    assert missing.returncode == 1
    assert "FileNotFoundError: no such traversal" in missing.stderr


def test_a_cli_that_honours_the_id_itself_keeps_it(package: Path, tmp_path: Path) -> None:
    (package / "task_resolver.py").write_text(HONOURING)
    assert said(python(tmp_path, SHOW_RUN.format("buy"))) == RUN


@pytest.mark.parametrize(
    "resolver",
    [
        "class Other: pass\n",
        "class CLITaskResolver: pass\n",
        "CLITaskResolver = None\n",
        RESOLVER.replace("self.task_config_path, self.run_id = path, ", "self.other, self.run_id = path, "),
        RESOLVER.replace("class Task:", "class Task:\n    __slots__ = ('task_config_path',)\n    run_id = 'fixed'").replace(
            "self.task_config_path, self.run_id = path, \"its-own\"", "self.task_config_path = path"
        ),
    ],
)  # fmt: skip
def test_a_version_of_another_shape_goes_on_without_us(package: Path, tmp_path: Path, resolver: str) -> None:
    (package / "task_resolver.py").write_text(resolver)
    assert said(python(tmp_path, "import bugninja_cli.utils.task_resolver; print('fine')")) == "fine"
    if "def resolve_task_ref" in resolver:
        assert said(python(tmp_path, SHOW_RUN.format("buy"))) in ("its-own", "fixed")


def test_an_error_of_the_cli_itself_stays_its_own(package: Path, tmp_path: Path) -> None:
    (package / "task_resolver.py").write_text("raise ImportError('no model')\n")
    done = python(tmp_path, "import bugninja_cli.utils.task_resolver")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("ImportError: no model")


def test_in_any_other_program_it_is_silent_and_leaves_no_trace(tmp_path: Path) -> None:
    show = "import sys; print(len(sys.meta_path), any('shim' in p for p in sys.path), 'bugninja_cli' in sys.modules)"
    here = said(python(tmp_path, show, BUGNINJA_RUN_ID="", BUGNINJA_TASK_ID=""))
    bare = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    assert here == bare
    assert said(python(tmp_path, "import json; print(json.dumps(1))")) == "1"


def test_another_sitecustomize_on_the_path_keeps_working(package: Path, tmp_path: Path) -> None:
    (package / "task_resolver.py").write_text(RESOLVER)
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import os; os.environ['OTHER'] = 'was here'\n")
    code = "import os, sitecustomize; print(os.environ['OTHER'], sitecustomize.__file__);" + SHOW_RUN.format("buy")
    printed = said(python(tmp_path, code, other)).split("\n")
    assert printed == [f"was here {other / 'sitecustomize.py'}", RUN]


def test_another_broken_sitecustomize_does_not_stop_the_cli(package: Path, tmp_path: Path) -> None:
    (package / "task_resolver.py").write_text(RESOLVER)
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text("import no_such_module\n")
    done = python(tmp_path, SHOW_RUN.format("buy"), other)
    assert (done.returncode, done.stdout.strip()) == (0, RUN)


@pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")
def test_each_run_of_a_template_keeps_its_own_id(tmp_path: Path) -> None:
    warm = Warm(tmp_path)
    folder = warm.code / "bugninja_cli" / "utils"
    folder.mkdir(parents=True)
    for name, code in {"__init__": "", "task_resolver": RESOLVER, "task_executor": EXECUTOR}.items():
        (folder / f"{name}.py").write_text(code)
    (folder.parent / "__init__.py").touch()
    imports = "import bugninja_cli.utils.task_executor\nimport bugninja_cli.utils.task_resolver\n"
    found = SHOW_FOUND.format("x" * 24)
    try:
        template = warm.ready(f"{imports}{SHOW_RUN.format(TASK)}\n{SHOW_REPLAY}\n{found}")
        for number in range(2):
            folder = warm.root / "tasks" / TASK / "traversals"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"traverse_20261123_080000_{'x' * 24}.json").touch()
            run_id = warm.command(number).environ["BUGNINJA_RUN_ID"]
            run_folder = Path(warm.command(number).environ["BUGNINJA_RUN_FOLDER"])
            run_folder.mkdir(parents=True)
            expected = f"{run_id}\n{run_id}\ntraverse_20261123_080000_{'x' * 24}.json\n"
            assert warm.run(template, number) == (expected, 0)
            assert (run_folder / "kept-id").exists()
    finally:
        warm.close()
