"""Which files below `tasks/` may be served."""

import os
from pathlib import Path

import pytest

from runner.errors import NotFound
from runner.project.media import open_media
from tests.project import Project


@pytest.fixture
def tasks(project: Project, tmp_path: Path) -> Path:
    folder = project.add_task("buy")
    for name in ("screenshots/run/001.png", "screenshots/run/.hidden.png", "screenshots/run/notes.txt", "videos/a.webm",
                 "screenshots/run/PAGE.SVG", "screenshots/run/page.html", "screenshots/two words.JPG", "traversals/t.json",
                 "runs/x.png", "screenshots/1/2/3/4/5/6/7/8.png", "screenshots/1/2/3/4/5/6/7/8/9.png"):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"content")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(b"secret")
    (folder / "screenshots" / "link.png").symlink_to(outside / "secret.png")
    (folder / "screenshots" / "folder").symlink_to(outside)
    (folder / "screenshots" / "toml.png").symlink_to(folder / "task_buy.toml")
    (folder / "screenshots" / "same.png").symlink_to(folder / "screenshots" / "run" / "001.png")
    os.mkfifo(folder / "screenshots" / "fifo.png")
    (project.root / "tasks" / "elsewhere").symlink_to(outside)
    (outside / "screenshots").mkdir()
    (outside / "screenshots" / "x.png").write_bytes(b"x")
    return project.root / "tasks"


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("screenshots", "run/001.png"),
        ("screenshots", "two words.JPG"),
        ("screenshots", "1/2/3/4/5/6/7/8.png"),
        ("videos", "a.webm"),
    ],
)
def test_pictures_and_recordings_are_found(tasks: Path, folder: str, path: str) -> None:
    media = open_media(tasks, "buy", folder, path)
    with media.file as file:
        status = os.fstat(file.fileno())
        assert (media.size, file.read()) == (7, b"content")
    assert media.etag == f'"{status.st_ino:x}-{status.st_mtime_ns:x}-7"'


@pytest.mark.parametrize(
    ("task", "folder", "path"),
    [
        ("buy", "screenshots", "run/002.png"),
        ("buy", "screenshots", "run"),
        ("buy", "screenshots", "run/"),
        ("buy", "screenshots", ""),
        ("buy", "screenshots", "run/.hidden.png"),
        ("buy", "screenshots", "run/notes.txt"),
        ("buy", "screenshots", "run/page.html"),
        ("buy", "screenshots", "run/PAGE.SVG"),
        ("buy", "screenshots", "../task_buy.toml"),
        ("buy", "screenshots", "run/../../videos/a.webm"),
        ("buy", "screenshots", "/etc/passwd"),
        ("buy", "screenshots", "run//001.png"),
        ("buy", "screenshots", "run/001.png\x00.png"),
        ("buy", "screenshots", "link.png"),
        ("buy", "screenshots", "folder/secret.png"),
        ("buy", "screenshots", "toml.png"),
        ("buy", "screenshots", "same.png"),
        ("buy", "screenshots", "fifo.png"),
        ("buy", "screenshots", "1/2/3/4/5/6/7/8/9.png"),
        ("buy", "screenshots", "x" * 10_000 + ".png"),
        ("buy", "traversals", "t.json"),
        ("buy", "runs", "x.png"),
        ("elsewhere", "screenshots", "x.png"),
        ("../tasks/buy", "screenshots", "run/001.png"),
        ("BUY", "screenshots", "run/001.png"),
        ("nothing", "screenshots", "run/001.png"),
    ],
)
def test_nothing_else_is_found(tasks: Path, task: str, folder: str, path: str) -> None:
    with pytest.raises(NotFound, match="There is no picture or recording"):
        open_media(tasks, task, folder, path)
