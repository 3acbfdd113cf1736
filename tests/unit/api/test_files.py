"""Logs, pictures and recordings over HTTP."""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import anyio
import pytest
from starlette.requests import Request
from starlette.types import Message

from jobs.api.files import FileResponse, Span, parse_range
from runner.files import file_size
from tests.project import VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    FRONT_END,
    OTHER,
    STAMP,
    run_folder,
    write_run,
)


@pytest.fixture
def picture(buy: FakeStack) -> str:
    """The path of a screenshot."""
    folder = buy.project.root / "tasks" / "buy" / "screenshots" / "run"
    folder.mkdir(parents=True)
    (folder / "001.png").write_bytes(bytes(range(200)))
    return "/tasks/buy/screenshots/run/001.png"


NONE_OF_THEM = '{"detail":"The file has 14 bytes, and none of those that Range asks for."}'


def test_a_screenshot_is_served_with_all_that_a_browser_wants(buy: FakeStack, picture: str) -> None:
    response = buy.client.get(picture, headers={"Origin": FRONT_END})
    assert (response.status_code, response.content) == (200, bytes(range(200)))
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["access-control-allow-origin"] == FRONT_END
    etag = response.headers["etag"]
    again = buy.client.get(picture, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    for header in (f'"other", {etag}', f"W/{etag}", "*"):
        assert buy.client.get(picture, headers={"If-None-Match": header}).status_code == 304
    assert buy.client.get(picture, headers={"If-None-Match": '"other"'}).status_code == 200
    part = buy.client.get(picture, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/200"
    assert buy.client.get(picture, headers={"Range": "bytes=900-"}).status_code == 416
    head = buy.client.head(picture)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "200", b"")
    (buy.project.root / picture[1:]).write_bytes(b"new")
    assert buy.client.get(picture, headers={"If-None-Match": etag}).content == b"new"


def test_errors_about_ranges_are_json_too(buy: FakeStack, picture: str) -> None:
    response = buy.client.get(picture, headers={"Range": "bytes=900-"})
    assert (response.status_code, response.headers["content-range"]) == (416, "bytes */200")
    assert "has 200 bytes" in response.json()["detail"]
    for header in ("bytes=x-y", "lines=1-2", "bytes=-"):
        assert buy.client.get(picture, headers={"Range": header}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/buy/task_buy.toml",
        "/tasks/buy/screenshots",
        "/tasks/buy/screenshots/",
        "/tasks/buy/screenshots/run/",
        "/tasks/buy/screenshots/%2e%2e/task_buy.toml",
        "/tasks/buy/screenshots/..%2ftask_buy.toml",
        "/tasks/buy/runs/x/run.json",
        "/tasks/buy/traversals/x.json",
    ],
)
def test_nothing_but_pictures_and_recordings_is_served(buy: FakeStack, picture: str, path: str) -> None:
    response = buy.client.get(path)
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_links_that_go_round_in_circles_are_not_found(buy: FakeStack) -> None:
    folder = buy.project.root / "tasks" / "buy"
    (folder / "screenshots").symlink_to("a")
    (folder / "a").symlink_to("screenshots")
    assert buy.client.get("/tasks/buy/screenshots/a/b.png").status_code == 404


def test_the_log_is_plain_text_in_parts(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:one print:\x1b[31mtwo\x1b[0m print:three pass")
    path = f"/test-runs/{stack.run('buy')['id']}/log"
    whole = stack.client.get(path)
    assert whole.text == "one\ntwo\nthree\n"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["x-next-offset"] == "14"
    assert stack.client.get(path, params={"tail": 2}).text == "two\nthree\n"
    assert stack.client.get(path, params={"tail": 0}).text == ""
    assert stack.client.get(path, params={"offset": 8}).text == "three\n"
    beyond = stack.client.get(path, params={"offset": 999})
    assert (beyond.text, beyond.headers["x-next-offset"]) == ("", "14")
    for header, status, text, content_range in [
        ("bytes=4-6", 206, "two", "bytes 4-6/14"),
        ("bytes=8-", 206, "three\n", "bytes 8-13/14"),
        ("bytes=-6", 206, "three\n", "bytes 8-13/14"),
        ("bytes=99-", 416, NONE_OF_THEM, "bytes */14"),
        ("bytes=6-4", 416, NONE_OF_THEM, "bytes */14"),
        ("bytes=x-y", 200, "one\ntwo\nthree\n", None),
        ("bytes=0-1,3-4", 200, "one\ntwo\nthree\n", None),
    ]:
        part = stack.client.get(path, headers={"Range": header})
        assert (part.status_code, part.text, part.headers.get("content-range")) == (status, text, content_range), header
    for query in ("tail=-1", "tail=x", "offset=1.5", "offset=" + "9" * 30):
        assert stack.client.get(f"{path}?{query}").status_code == 422


def test_a_run_that_printed_nothing_yet_has_an_empty_log_and_an_unknown_one_none(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    queued = stack.post("buy").json()["id"]
    assert (
        stack.client.get(f"/test-runs/{queued}/log").status_code,
        stack.client.get(f"/test-runs/{queued}/log").text,
    ) == (200, "")
    assert stack.client.get(f"/test-runs/{OTHER}/log").status_code == 404
    assert stack.client.get("/test-runs/nonsense/log").status_code == 404


def open_files(stack: FakeStack) -> list[str]:
    """The files of tasks that this process has open."""
    found = []
    for handle in os.listdir("/dev/fd"):
        with suppress(OSError):
            found.append(str(Path(f"/dev/fd/{handle}").readlink()))
    return [name for name in found if name.startswith(f"{stack.settings.tasks_root}/")]


def test_no_answer_leaves_a_file_open(buy: FakeStack, picture: str) -> None:
    log = f"/test-runs/{buy.run('buy')['id']}/log"
    run_folder(buy, log.split("/")[2]).log.write_bytes(b"one\ntwo\n")
    etag = buy.client.get(picture).headers["etag"]
    with (buy.project.root / picture[1:]).open("rb"):
        assert open_files(buy) == [str(buy.project.root / picture[1:])]
    for path in (picture, log):
        for headers in (
            {},
            {"Range": "bytes=1-2"},
            {"Range": "bytes=900-"},
            {"If-None-Match": etag},
            {"If-Range": "x"},
        ):
            for method in ("GET", "HEAD"):
                assert buy.client.request(method, path, headers=headers).status_code in (200, 206, 304, 416)
                assert open_files(buy) == []
    for query in ("tail=1", "offset=3", "offset=900"):
        assert buy.client.get(f"{log}?{query}").status_code == 200
        assert open_files(buy) == []


def test_an_answer_that_cannot_be_made_leaves_no_file_open(
    buy: FakeStack, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.api.files.span_response", lambda *_: 1 / 0)
    assert buy.client.get(picture).status_code == 500
    assert open_files(buy) == []


@pytest.mark.anyio
async def test_the_file_of_a_client_that_has_left_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    file = path.open("rb")
    response = FileResponse(file, Span(0, 200_000, 200), {}, "text/plain")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        await response({"type": "http"}, receive, send)
    assert file.closed


def test_what_is_replaced_after_it_was_opened_is_served_as_it_was(
    buy: FakeStack, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = buy.project.root / picture[1:]

    def replaced(request: Request, etag: str) -> bool:
        path.unlink()
        path.symlink_to(buy.project.root / "tasks" / "buy" / "task_buy.toml")
        return False

    monkeypatch.setattr("jobs.api.files.etag_matches", replaced)
    response = buy.client.get(picture)
    assert (response.status_code, response.content) == (200, bytes(range(200)))
    assert response.headers["content-length"] == "200"
    monkeypatch.undo()
    assert buy.client.get(picture).status_code == 404


def test_the_last_lines_and_the_next_offset_fit_together(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is printed meanwhile is a part of the next answer, and not of both."""
    run_id = buy.run("buy")["id"]
    log = run_folder(buy, run_id).log
    log.write_bytes(b"one\ntwo\n")

    def size_and_grow(file: BinaryIO) -> int:
        size = file_size(file)
        with log.open("ab") as more:
            more.write(b"three\n")
        return size

    monkeypatch.setattr("jobs.api.files.file_size", size_and_grow)
    answer = buy.client.get(f"/test-runs/{run_id}/log?tail=1")
    assert (answer.text, answer.headers["x-next-offset"]) == ("two\n", "8")


@pytest.mark.parametrize(
    ("header", "span", "content_range"),
    [
        (None, (0, 10, 200), None),
        ("", (0, 10, 200), None),
        ("bytes=0-0", (0, 1, 206), "bytes 0-0/10"),
        ("bytes=0-", (0, 10, 206), "bytes 0-9/10"),
        ("bytes=2-5", (2, 6, 206), "bytes 2-5/10"),
        (" bytes=2-5 ", (2, 6, 206), "bytes 2-5/10"),
        ("bytes=9-9", (9, 10, 206), "bytes 9-9/10"),
        ("bytes=9-99", (9, 10, 206), "bytes 9-9/10"),
        ("bytes=0-999999999999999", (0, 10, 206), "bytes 0-9/10"),
        ("bytes=-1", (9, 10, 206), "bytes 9-9/10"),
        ("bytes=-10", (0, 10, 206), "bytes 0-9/10"),
        ("bytes=-999999999999999", (0, 10, 206), "bytes 0-9/10"),
        ("bytes=-0", (0, 0, 416), "bytes */10"),
        ("bytes=10-", (0, 0, 416), "bytes */10"),
        ("bytes=10-11", (0, 0, 416), "bytes */10"),
        ("bytes=999999999999999-", (0, 0, 416), "bytes */10"),
        ("bytes=5-4", (0, 0, 416), "bytes */10"),
        ("bytes=5-5", (5, 6, 206), "bytes 5-5/10"),
        ("bytes=-", (0, 10, 200), None),
        ("bytes=1000000000000000-", (0, 10, 200), None),
        ("bytes=-1000000000000000", (0, 10, 200), None),
        ("bytes=0-1,3-4", (0, 10, 200), None),
        ("bytes 0-1", (0, 10, 200), None),
        ("xbytes=0-1", (0, 10, 200), None),
        ("bytes=0-1x", (0, 10, 200), None),
        ("bytes=1", (0, 10, 200), None),
        ("0-1", (0, 10, 200), None),
    ],
)
def test_a_range_is_a_part_or_none_or_all(
    header: str | None, span: tuple[int, int, int], content_range: str | None
) -> None:
    found = parse_range(header, 10)
    assert found == span
    if content_range:
        assert found.content_range(10) == content_range


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_an_empty_file_has_no_parts(header: str) -> None:
    assert parse_range(header, 0) == (0, 0, 416)
    assert parse_range(None, 0) == (0, 0, 200)


MEDIA, LOG = {"cache-control": "no-cache"}, {"cache-control": "no-store", "content-type": "text/plain; charset=utf-8"}
PART, BEYOND = {"Range": "bytes=2-4"}, {"Range": "bytes=900-"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("what", "query", "sent", "status", "headers"),
    [
        ("picture", "", {}, 200, {**MEDIA, "content-length": "200", "content-type": "image/png", "content-range": None}),
        ("picture", "", PART, 206, {**MEDIA, "content-length": "3", "content-type": "image/png", "content-range": "bytes 2-4/200"}),
        ("picture", "", BEYOND, 416, {**MEDIA, "content-type": "application/json", "content-range": "bytes */200"}),
        ("log", "", {}, 200, {**LOG, "content-length": "8", "x-next-offset": "8", "content-range": None}),
        ("log", "", PART, 206, {**LOG, "content-length": "3", "x-next-offset": "5", "content-range": "bytes 2-4/8"}),
        ("log", "", BEYOND, 416, {"cache-control": "no-store", "x-next-offset": "8", "content-range": "bytes */8"}),
        ("log", "?offset=3", PART, 200, {**LOG, "content-length": "5", "x-next-offset": "8", "content-range": None}),
        ("log", "?offset=0", PART, 200, {**LOG, "content-length": "8", "x-next-offset": "8", "content-range": None}),
        ("log", "?offset=8", {}, 200, {**LOG, "content-length": "0", "x-next-offset": "8", "content-range": None}),
        ("log", "?tail=1", PART, 200, {**LOG, "content-length": "4", "x-next-offset": "8", "accept-ranges": None}),
        ("log", "?tail=1&offset=3", {}, 200, {**LOG, "content-length": "4", "x-next-offset": "8", "accept-ranges": None}),
    ],
)  # fmt: skip
def test_each_part_has_its_headers(
    buy: FakeStack, picture: str, method: str, what: str, query: str, sent: dict[str, str], status: int,
    headers: dict[str, str | None],
) -> None:  # fmt: skip
    folder = buy.project.root / "tasks" / "buy" / "runs" / OTHER
    folder.mkdir(parents=True)
    (folder / "cli.log").write_bytes(b"one\ntwo\n")
    write_run(folder.parent.parent, STAMP, OTHER, traversal_bytes([VISIT]))
    path = picture if what == "picture" else f"/test-runs/{OTHER}/log{query}"
    response = buy.client.request(method, path, headers=sent)
    expected = {"x-content-type-options": "nosniff", "accept-ranges": "bytes", **headers}
    assert (response.status_code, {name: response.headers.get(name) for name in expected}) == (status, expected)
    assert ("etag" in response.headers) is (what == "picture")
    if method == "HEAD":
        assert response.content == b""
    elif status != 416:
        assert len(response.content) == int(response.headers["content-length"])


def test_a_part_of_what_has_changed_meanwhile_is_not_sent(buy: FakeStack, picture: str) -> None:
    etag = buy.client.get(picture).headers["etag"]
    for known, status in ((etag, 206), ('"other"', 200), ("", 200)):
        assert buy.client.get(picture, headers={**PART, "If-Range": known}).status_code == status
    unchanged = buy.client.get(picture, headers={**PART, "If-None-Match": etag})
    headers = (unchanged.headers["etag"], unchanged.headers["cache-control"])
    assert (unchanged.status_code, headers) == (304, (etag, "no-cache"))
