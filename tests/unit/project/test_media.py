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
                 "runs/x.png", "x.png", "screenshots/1/2/3/4/5/6/7/8.png", "screenshots/1/2/3/4/5/6/7/8/9.png"):  # fmt: skip
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
        ("buy", ".", "x.png"),
        ("buy", "", "x.png"),
        ("elsewhere", "screenshots", "x.png"),
        ("../tasks/buy", "screenshots", "run/001.png"),
        ("BUY", "screenshots", "run/001.png"),
        ("nothing", "screenshots", "run/001.png"),
    ],
)
def test_nothing_else_is_found(tasks: Path, task: str, folder: str, path: str) -> None:
    with pytest.raises(NotFound, match="There is no picture or recording"):
        open_media(tasks, task, folder, path)


@pytest.mark.parametrize(
    ("ending", "media_type"),
    [(".png", "image/png"), (".jpg", "image/jpeg"), (".jpeg", "image/jpeg"), (".webp", "image/webp"), (".gif", "image/gif"),
     (".webm", "video/webm"), (".mp4", "video/mp4"), (".b.PNG", "image/png")],
)  # fmt: skip
def test_the_ending_says_what_it_is(project: Project, ending: str, media_type: str) -> None:
    folder = project.add_task("buy") / "videos"
    folder.mkdir()
    (folder / f"a{ending}").write_bytes(b"x")
    media = open_media(project.root / "tasks", "buy", "videos", f"a{ending}")
    media.file.close()
    assert media.type == media_type


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.png", True),
        ("Az09_-x. y.png", True),
        ("-.png", True),
        ("_.png", True),
        ("Z.png", True),
        ("9.png", True),
        ("a" * 251 + ".png", True),
        ("1/2/3/4/5/6/7/8.png", True),
        ("1/2/3/4/5/6/7/8/9.png", False),
        (" a.png", False),
        (".a.png", False),
        (".a/b.png", False),
        ("é.png", False),
        ("aé.png", False),
        ("a+b.png", False),
        ("a:b.png", False),
        ("a.png\n", False),
        (".png", False),
        ("a.svg", False),
    ],
)
def test_names_of_usual_characters_are_found(project: Project, path: str, found: bool) -> None:
    """All of them are there."""
    file = project.add_task("buy") / "screenshots" / path
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    if found:
        open_media(project.root / "tasks", "buy", "screenshots", path).file.close()
    else:
        with pytest.raises(NotFound):
            open_media(project.root / "tasks", "buy", "screenshots", path)


def test_what_is_not_found_is_named_as_it_can_be_read(tasks: Path) -> None:
    with pytest.raises(NotFound) as caught:
        open_media(tasks, "buy", "videos", "a\x1b[31m.webm")
    assert str(caught.value).startswith("There is no picture or recording 'tasks/buy/videos/a")
    assert "\x1b" not in str(caught.value)
