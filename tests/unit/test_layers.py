"""The one-way folders of the design, kept by walking the imports: one rule per folder."""

import ast
from pathlib import Path

import pytest

from tests.stack import ROOT

RUNNER = ("runner", "runner/project", "runner/cli")
BELOW_STATUS = ("jobs/queue", "jobs/run", *RUNNER)
MAY_IMPORT = {
    "runner": (),
    "runner/project": ("runner",),
    "runner/cli": ("runner/project", "runner"),
    "runner/client": (),
    "jobs/run": RUNNER,
    "jobs/queue": ("jobs/run", *RUNNER),
    "jobs/worker": BELOW_STATUS,
    "jobs/status": BELOW_STATUS,
    "jobs": ("jobs/status", "jobs/worker", *BELOW_STATUS),
    "jobs/api": ("jobs", "jobs/status", *BELOW_STATUS),
    "jobs/server": ("jobs/api", "jobs", "jobs/status", *BELOW_STATUS),
    "jobs/page": ("jobs/api", "jobs", "jobs/status", *BELOW_STATUS),
    ".": ("jobs/page", "jobs/server", "jobs/api", "jobs", "jobs/queue", *RUNNER),
}
"""Which folders the files of a folder may import from, beside their own."""

HOME_OF = {
    "starlette": ("jobs/api", "jobs/server", "jobs/page", "."),
    "jinja2": ("jobs/page/templates.py",),
    "itsdangerous": ("jobs/api/guard.py",),
    "uvicorn": ("jobs/server", "."),
    "rq": ("jobs/queue/job.py", "jobs/queue/places.py", "jobs/worker/run_job.py", "jobs/worker/worker.py"),
    "redis": ("jobs", "jobs/queue", "jobs/worker", "jobs/status"),
    "prometheus_client": ("jobs/status/metrics.py",),
    "psutil": ("runner/cli",),
    "watchfiles": ("runner/project",),
    "sqlite3": ("jobs/status",),
    "cachetools": ("jobs/status",),
    "subprocess": ("runner/cli",),
    "click": ("runner/client",),
    "rich": ("runner/client/live.py",),
}
"""The only folders, or files, that may import these packages."""

LARGEST_FOLDER = 14
FILES = [ROOT / "app.py", *sorted((ROOT / "jobs").rglob("*.py")), *sorted((ROOT / "runner").rglob("*.py"))]
SHIM = ROOT / "runner" / "cli" / "shim"  # no package: the CLI's own interpreter runs it
IN_FOLDERS = [path for path in FILES if path.parent != SHIM]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def folder_of(path: Path) -> str:
    return str(path.parent.relative_to(ROOT))


def imports(path: Path) -> list[str]:
    """The dotted names of all modules that the file imports, wherever in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found.append(node.module or "")
    return found


def file_of(module: str) -> Path | None:
    """The file of a module of this project; None for any other module."""
    path = ROOT / f"{module.replace('.', '/')}.py"
    return path if path in FILES else None


@pytest.mark.parametrize("path", IN_FOLDERS, ids=name_of)
def test_a_file_imports_only_from_folders_below_its_own(path: Path) -> None:
    allowed = {folder_of(path), *MAY_IMPORT[folder_of(path)]}
    imported = [file for name in imports(path) if (file := file_of(name))]
    assert not [name_of(file) for file in imported if folder_of(file) not in allowed]


@pytest.mark.parametrize("path", IN_FOLDERS, ids=name_of)
def test_each_outside_thing_has_one_home(path: Path) -> None:
    packages = {name.partition(".")[0] for name in imports(path)} & HOME_OF.keys()
    assert not [name for name in packages if not {folder_of(path), name_of(path)} & {*HOME_OF[name]}]


@pytest.mark.parametrize("path", IN_FOLDERS, ids=name_of)
def test_a_module_of_this_project_is_imported_by_its_full_name(path: Path) -> None:
    """`from jobs import worker` would slip through the other rules."""
    assert not {"jobs", "runner", *(folder.replace("/", ".") for folder in MAY_IMPORT)} & set(imports(path))


def test_the_shim_imports_nothing_of_this_project() -> None:
    for path in FILES:
        if path.parent == SHIM:
            assert not [name for name in imports(path) if name.partition(".")[0] in ("app", "jobs", "runner")]


def test_there_are_no_circles() -> None:
    waiting = {path: {file for name in imports(path) if (file := file_of(name))} for path in FILES}
    while free := [path for path, needed in waiting.items() if not needed & waiting.keys()]:
        for path in free:
            del waiting[path]
    assert not [name_of(path) for path in waiting]


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    folders = [folder_of(path) for path in FILES]
    assert max(map(folders.count, folders)) <= LARGEST_FOLDER
    assert len((ROOT / "app.py").read_text().splitlines()) < 60


def test_the_walk_sees_the_files_it_is_about() -> None:
    assert {folder_of(path) for path in IN_FOLDERS} == set(MAY_IMPORT)
    assert file_of("jobs.services") in FILES
    assert "jobs.services" in imports(ROOT / "app.py")
