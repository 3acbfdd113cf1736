"""A run as one file."""

import asyncio
import base64
import gc
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobs.page.report import blocks, choose, picture_content
from tests.project import FAULT, PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import get_report
from tests.unit.runs import by_hand, change_record, run_folder, write_run

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def failed(buy: FakeStack) -> str:
    """The ID of a run made by hand with ten steps, of which the seventh failed, and a picture of each."""
    actions = [VISIT] * 6 + [("extract_content", {"goal": "look"})] + [VISIT] * 2 + [FAULT]
    document = json.loads(traversal_bytes(actions, "FAILED"))
    document["brain_states"]["thought7"]["evaluation_previous_goal"] = "Failed - it is not there"
    document["actions"]["action_9"]["screenshot_filename"] = None
    task, run_id = buy.project.root / "tasks" / "buy", by_hand("1")
    write_run(task, "20260101_080001", run_id, json.dumps(document).encode())
    folder = task / "screenshots" / "run"
    folder.mkdir(parents=True)
    for action in list(document["actions"].values())[:-1]:
        name = Path(action["screenshot_filename"]).name
        (folder / name).write_bytes(PNG + name.encode())
    return run_id


def pictures(html: str) -> dict[str, str]:
    """The names of the pictures' files, by the IDs of their data."""
    found = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', html)
    decoded = {name: base64.b64decode(json.loads(data).removeprefix("data:image/png;base64,")) for name, data in found}
    assert all(content.startswith(PNG) for content in decoded.values())
    return {name: content.removeprefix(PNG).decode() for name, content in decoded.items()}


def test_a_report_has_all_of_a_run_and_needs_nothing_else(buy: FakeStack, failed: str) -> None:
    page = get_report(buy, failed)
    assert page.text.index("The cart is empty") < page.text.index("goal 0")
    assert len(page.ids("step-")) == 10
    assert sorted(pictures(page.html).values()) == sorted(
        [*(f"{n:03}_go_to_url.png" for n in (1, 2, 3, 4, 5, 6, 8, 9)), "007_extract_content.png"]
    )
    assert pictures(page.html)["picture-1"] == "007_extract_content.png"  # that of the failure
    assert {found["data-picture"] for found in page.all("img")} == set(pictures(page.html))
    links = [found.get("href", "") + found.get("src", "") for _, found in page.elements]
    assert [link for link in links if link and not link.startswith("#")] == []
    assert "Bugninja Runner" in page.text
    assert "RQ" in page.text


@pytest.mark.parametrize(("images", "count"), [("all", 9), ("failed", 3), ("none", 0)])
def test_one_can_say_which_pictures(buy: FakeStack, failed: str, images: str, count: int) -> None:
    page = get_report(buy, failed, f"?images={images}")
    assert len(pictures(page.html)) == count
    assert "did not fit" not in page.text


def test_a_passed_run_has_no_picture_of_a_failure(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    assert pictures(get_report(buy, run_id, "?images=failed").html) == {}
    assert "The end of the log" not in get_report(buy, run_id).text
    run_folder(buy, run_id).log.write_text("one\n<two>\n")
    assert "The end of the log one <two>" in get_report(buy, run_id).text


def test_beside_the_failure_is_the_picture_of_the_run_that_passed(buy: FakeStack, failed: str) -> None:
    task = buy.project.root / "tasks" / "buy"
    write_run(task, "20260101_080000", by_hand("0"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    (task / "screenshots" / "run" / "002_done.png").write_bytes(PNG + b"passed")
    page = get_report(buy, failed, "?images=failed")
    assert "The last run that passed, step 2" in page.text
    assert "passed" in pictures(page.html).values()


def test_what_has_no_room_is_counted_and_the_failure_comes_first(buy: FakeStack, failed: str) -> None:
    root = buy.settings.tasks_root
    names = [f"tasks/buy/screenshots/run/{n:03}_go_to_url.png" for n in (3, 1, 2)]
    size = 4 * -(-len(PNG + b"003_go_to_url.png") // 3)
    chosen = choose(root, [*names, "tasks/buy/screenshots/run/none.png", "tasks/../../etc/passwd"], 2 * size + 1)
    assert chosen.names == {names[0]: "picture-1", names[1]: "picture-2"}
    assert (chosen.left_out, chosen.missing) == (1, 2)
    (root / "buy" / "screenshots" / "run" / "001_go_to_url.png").write_bytes(bytes(16 * 1024 * 1024))
    (root / "buy" / "screenshots" / "run" / "002_go_to_url.png").unlink()
    page = get_report(buy, failed)
    assert "1 picture did not fit into this file. 1 picture could not be read." in page.text
    assert len(pictures(page.html)) == 7


def test_the_file_says_itself_what_it_may_do(buy: FakeStack, failed: str) -> None:
    response = buy.client.get(f"/test-runs/{failed}/report.html")
    (inside,) = [
        found["content"] for found in get_report(buy, failed).all("meta", http_equiv="Content-Security-Policy")
    ]
    assert response.headers["content-security-policy"] == f"{inside}; frame-ancestors 'none'"
    script, style = (re.findall(rf"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL) for tag in ("script", "style"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for (text,) in (script, style)]
    assert inside == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert response.headers["content-disposition"] == f'inline; filename="run-{failed}.html"'


def test_a_pruned_run_has_a_report_too(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    change_record(buy, run_id, artifacts="pruned")
    run_folder(buy, run_id).log.unlink()
    assert "were pruned" in get_report(buy, run_id).text


def test_errors_are_json_as_of_all_calls(buy: FakeStack, failed: str) -> None:
    assert buy.client.get("/test-runs/nothing/report.html").status_code == 404
    answer = buy.client.get(f"/test-runs/{failed}/report.html?images=some")
    assert answer.json()["detail"].startswith("images must be all, failed")
    assert buy.client.get(f"/api/v1/test-runs/{failed}/report.html").status_code == 200
    head = buy.client.head(f"/test-runs/{failed}/report.html")
    assert (head.status_code, head.content) == (200, b"")


def test_a_picture_that_grows_or_goes_does_not_break_the_file(buy: FakeStack, failed: str) -> None:
    root, path = buy.settings.tasks_root, "tasks/buy/screenshots/run/003_go_to_url.png"
    file = root.parent / path
    file.write_bytes(bytes(100_000))
    parts = picture_content(root, path)
    assert next(parts) == "data:image/png;base64,"
    with file.open("ab") as more:
        more.write(bytes(100_000))
    assert base64.b64decode("".join(parts)) == bytes(100_000)
    file.unlink()
    assert [*picture_content(root, path)] == []


def test_pieces_are_joined_but_never_all_of_them() -> None:
    pieces = ["ä" * 1000] * 100
    found = [*blocks(pieces)]
    assert b"".join(found).decode() == "".join(pieces)
    assert 2 < len(found) < 5
    assert [*blocks(["\ud800"])] == [b"?"]


def test_a_client_that_leaves_in_the_middle_leaves_no_picture_open(buy: FakeStack, failed: str) -> None:
    (buy.settings.tasks_root / "buy" / "screenshots" / "run" / "003_go_to_url.png").write_bytes(bytes(1_000_000))
    path, has_come = f"/test-runs/{failed}/report.html", asyncio.Event()
    headers = [(b"host", b"127.0.0.1:8000")]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}

    async def receive() -> Any:
        await has_come.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if b"AAAAAAAA" in message.get("body", b""):
            has_come.set()
            await asyncio.sleep(60)

    portal = buy.client.portal
    assert portal is not None
    gc.disable()
    try:
        portal.call(buy.client.app, scope, receive, send)
        assert [file.path for file in psutil.Process().open_files() if file.path.endswith(".png")] == []
    finally:
        gc.enable()
