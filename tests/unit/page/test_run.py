"""The page of one run."""

import json

from tests.project import FAULT, PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import Page, get_page
from tests.unit.runs import by_hand, change_record, run_folder, write_run

PNG = b"\x89PNG\r\n\x1a\n"


def write_pictures(stack: FakeStack, *names: str, task: str = "buy") -> None:
    """Pictures of a run, as `make_traversal` names them."""
    folder = stack.project.root / "tasks" / task / "screenshots" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(PNG)


def run_page(stack: FakeStack, run_id: str, query: str = "", status: int = 200) -> Page:
    return get_page(stack, f"/ui/runs/{run_id}{query}", status)


def test_the_failure_comes_first_with_the_picture_of_the_run_that_passed(buy: FakeStack) -> None:
    folder = buy.project.root / "tasks" / "buy"
    passed, failed = by_hand("1"), by_hand("2")
    write_run(folder, "20260101_080001", passed, traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    write_run(folder, "20260101_080002", failed, traversal_bytes([VISIT, VISIT, FAULT], "FAILED"))
    page = run_page(buy, failed)
    assert page.text.index("The cart is empty") < page.text.index("Tried goal 2") < page.text.index("Steps")
    assert "Where http://127.0.0.1:1/" in page.text
    assert page.all("a", href="#step-3")
    pictures = [found["src"] for found in page.all("img") if "src" in found]
    assert pictures[:2] == [f"/tasks/buy/screenshots/run/{name}.png" for name in ("003_done", "002_done")]
    assert page.all("a", href=f"/ui/runs/{passed}#step-2")
    assert page.all("div", data_final="FAILED")


def test_a_run_that_passed_has_no_failure_and_can_be_replayed(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    page = run_page(buy, run_id)
    (result,) = page.all("section", id="result")
    assert "hidden" in result
    assert page.posts == [
        f"/test-runs/{run_id}/rerun",
        f"/test-runs/replay-run/{run_id}",
        f"/test-runs/replay-run/{run_id}?healing=true",
    ]
    assert page.all("a", href=f"/test-runs/{run_id}/report.html")
    assert page.all("a", href=f"/test-runs/{run_id}")
    (copied,) = [found["data-copy"] for found in page.all("button") if "data-copy" in found]
    assert copied == f"curl -X POST {buy.settings.base_url}/test-runs/{run_id}/rerun"
    ((_, body),) = [found for found in page.elements if found[0] == "body"]
    assert body["data-live"] == ""


def test_a_run_that_waits_says_for_what(buy: FakeStack) -> None:
    first, second = (buy.post("buy").json()["id"] for _ in range(2))
    assert "Waits for a free worker: place 1 in the queue." in run_page(buy, first).text
    page = run_page(buy, second)
    assert "Waits for its turn: place 1 behind" in page.text
    assert page.all("a", href=f"/ui/runs/{first}")
    assert page.posts == [f"/test-runs/{second}/stop"]
    ((_, body),) = [found for found in page.elements if found[0] == "body"]
    assert body["data-live"] == f"/ui/events/runs/{second}?start=1"
    assert page.all("meta", http_equiv="refresh")


def test_200_steps_are_shown_and_the_others_on_demand(buy: FakeStack) -> None:
    run_id = by_hand("1")
    write_run(
        buy.project.root / "tasks" / "buy",
        "20260101_080001",
        run_id,
        traversal_bytes([VISIT] * 449 + [FAULT], "FAILED"),
    )
    page = run_page(buy, run_id)
    assert len(page.ids("step-")) == 200
    assert "250 more steps" in page.text
    assert page.all("a", href="?start=401#step-450")  # that of the failure
    (more,) = [found["data-more"] for found in page.all("a") if "data-more" in found]
    parts = buy.client.get(more).json()
    assert next(iter(parts)) == "step-201"
    assert len([name for name in parts if name.startswith("step-")]) == 200
    assert "goal 399" in parts["step-400"]
    last = run_page(buy, run_id, "?start=450")
    assert last.ids("step-") == [f"step-{number}" for number in range(401, 451)]
    assert "more steps" not in last.text
    assert last.all("a", href="?start=201#steps")
    assert run_page(buy, run_id, "?start=0", 422)


def test_the_end_of_the_log_is_there_with_a_link_per_line(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    folder = run_folder(buy, run_id)
    folder.log.write_bytes(b"".join(f"line {n}\n".encode() for n in range(300)) + "é <b>half".encode())
    page = run_page(buy, run_id)
    offsets = [int(name.removeprefix("log-")) for name in page.ids("log-") if name[4:].isdigit()]
    content = folder.log.read_bytes()
    assert len(offsets) == 200
    assert content[offsets[0] :].startswith(b"line 101\n")
    assert content[offsets[-1] :].decode() == "é <b>half"
    assert "é <b>half" in page.text
    (log,) = page.all("ol", id="log")
    assert (log["data-start"], log["data-end"]) == (str(offsets[0]), str(len(content)))
    assert "data-partial" in log
    folder.log.write_bytes(b"a\rb\nb\n")
    assert run_page(buy, run_id).ids("log-")[2:] == ["log-0", "log-4"]
    (log,) = run_page(buy, run_id).all("ol", id="log")
    assert "data-partial" not in log


def test_of_a_log_without_lines_a_part_is_shown(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    run_folder(buy, run_id).log.write_bytes(b"x" * 1_000_000)
    page = run_page(buy, run_id)
    assert len(page.html) < 20_000
    assert page.all("ol", data_start=str(1_000_000 - 64 * 1024))


def test_recordings_of_the_run_play(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    videos = buy.project.root / "tasks" / "buy" / "videos"
    videos.mkdir()
    for name in (f"{run_id}.webm", f"{by_hand('1')}.webm", f"{run_id}.txt", f".{run_id}.webm"):
        (videos / name).write_bytes(b"x")
    (video,) = run_page(buy, run_id).all("video")
    assert video["src"] == f"/tasks/buy/videos/{run_id}.webm"
    assert buy.client.get(video["src"]).status_code == 200


def test_a_pruned_run_says_that_its_files_are_gone(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    change_record(buy, run_id, artifacts="pruned")
    run_folder(buy, run_id).log.unlink()
    page = run_page(buy, run_id)
    assert "were pruned" in page.text
    assert not page.all("ol", id="log")
    assert page.posts == [f"/test-runs/{run_id}/rerun"]


def test_a_run_that_is_not_there_is_a_page_that_says_so(buy: FakeStack) -> None:
    assert "There is no run 'nothing'" in run_page(buy, "nothing", status=404).text
    assert buy.client.get(f"/ui/events/runs/{by_hand(str(9))}").json()["detail"].startswith("There is no run")
    assert buy.client.get(f"/ui/runs/{by_hand('9')}/steps").status_code == 404


def test_a_damaged_record_is_shown_as_what_it_is(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    run_folder(buy, run_id).write_record(b"{")
    buy.redis.flushall()
    page = run_page(buy, run_id)
    assert "cannot be used" in page.text
    assert page.all("div", data_final="ERROR")


def test_text_from_outside_is_text(buy: FakeStack) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    steps = traversal_bytes([("input_text", {"text": evil}), ("done", {"text": evil, "success": False})], "FAILED")
    document = json.loads(steps)
    for thought in document["brain_states"].values():
        thought.update(next_goal=evil, memory=evil, evaluation_previous_goal=evil)
    run_id = by_hand("1")
    write_run(buy.project.root / "tasks" / "buy", "20260101_080001", run_id, json.dumps(document).encode())
    for path in (f"/ui/runs/{run_id}", f"/test-runs/{run_id}/report.html"):
        page = get_page(buy, path)
        assert evil in page.text
        assert not page.all("img", src="x")
        assert len(page.all("script")) == 1


def test_a_very_long_text_is_cut(stack: FakeStack) -> None:
    stack.project.add_task("long", "pass", toml=f'[task]\nname = "{"x" * 1_000_000}"\n')
    run_id = stack.run("long")["id"]
    for path in ("/", f"/ui/runs/{run_id}", "/ui/tasks", "/ui/tasks/long", "/ui/workers"):
        assert len(get_page(stack, path).html) < 20_000, path
