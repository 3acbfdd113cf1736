"""The one-way layers of the design, kept by walking the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["runner", "jobs", "app"]
HOME_OF = {
    "starlette": "app",
    "uvicorn": "app",
    "rq": "jobs",
    "redis": "jobs",
    "psutil": "runner",
    "watchfiles": "runner",
    "subprocess": "runner",
}
ORDER = {
    "runner": [
        "errors", "settings", "ids", "gate", "log", "files", "command", "project", "catalog", "media", "redaction",
        "secrets", "traversal", "traversal_file", "watch", "run_folder", "removal", "cli_log", "log_file", "span", "process", "sample_cli",
    ],
    "jobs": [
        "document", "meta", "task_document", "page", "openapi", "steps", "verdict", "merge", "connection",
        "redis_server", "beat", "news", "outcome", "adopt", "limits", "execute", "idempotency", "queue", "stop", "reconcile", "worker",
        "answer", "entry", "index", "history", "tasks", "reader", "lists", "changes", "prune", "runs",
    ],
}  # fmt: skip
FILES = [ROOT / "app.py", *sorted((ROOT / "jobs").rglob("*.py")), *sorted((ROOT / "runner").rglob("*.py"))]


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


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_its_own_layer_and_those_below(path: Path) -> None:
    above = LAYERS[LAYERS.index(layer(path)) + 1 :]
    assert not [name for name in imports(path) if name.partition(".")[0] in above]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_outside_thing_has_one_home(path: Path) -> None:
    strangers = {name: HOME_OF.get(name.partition(".")[0], layer(path)) for name in imports(path)}
    assert set(strangers.values()) <= {layer(path)}, strangers


@pytest.mark.parametrize("package", ["runner", "jobs"])
def test_inside_a_package_imports_point_upwards_in_the_listing(package: str) -> None:
    order = ORDER[package]
    modules = {path.stem: path for path in (ROOT / package).glob("*.py") if path.stem != "__init__"}
    assert set(modules) == set(order)
    for name, path in modules.items():
        inner = [found.split(".")[1] for found in imports(path) if found.startswith(f"{package}.")]
        assert all(order.index(found) < order.index(name) for found in inner), f"{name} imports {inner}"


def test_the_walk_sees_the_files_it_is_about() -> None:
    assert {layer(path) for path in FILES} == set(LAYERS)
    assert "jobs.runs" in imports(ROOT / "app.py")
