"""The sample CLI."""

import json
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.cli.output import last_title, last_words
from runner.project.traversal import parse_traversal
from tests.project import Project

RUN = "r" * 24


PNG = b"\x89PNG\r\n\x1a\n"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        self.wfile.write(f"this is {self.path}".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def toml(site: str, *pages: str) -> str:
    return f'[task]\nname = "x"\ndescription = "d"\nstart_url = "{site}/"\n' + "".join(
        f"[[pages]]\n{page}\n" for page in pages
    )


def run_cli(project: Project, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "runner.cli.sample", *(words if len(words) > 1 else ("run", *words))]
    environ = {"PATH": "/nonexistent", "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8", **environ}
    return subprocess.run(command, cwd=project.root, env=environ, capture_output=True, text=True, check=False)


def documents(project: Project) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in project.traversals("t")]


def test_a_task_whose_pages_are_as_expected_passes(project: Project, site: str) -> None:
    project.add_task("t", toml=toml(site, 'url = "/a"\nexpect = ["this is /a"]', 'url = "/missing"\nstatus = 404'))
    done = run_cli(project, "t", BUGNINJA_RUN_ID=RUN)
    assert (done.returncode, done.stderr) == (0, "")
    assert last_words(done.stdout) is None
    (path,) = project.traversals("t")
    assert re.fullmatch(rf"traverse_\d{{8}}_\d{{6}}_{RUN}\.json", path.name)
    traversal = parse_traversal(path.read_bytes())
    assert (traversal.status, traversal.success) == ("SUCCESSFUL", True)
    kinds = [action.kind for action in traversal.actions]
    assert kinds == ["go_to_url", "go_to_url", "extract_content", "go_to_url", "done"]
    assert len(traversal.brain_states) == len(kinds)
    assert list(path.parent.iterdir()) == [path]


def test_a_task_that_tests_the_runner_looks_where_it_is(project: Project, site: str) -> None:
    task = toml("http://127.0.0.1:9", 'url = "/a"\nexpect = ["this is /a"]').replace(':9/"', ':9/first"')
    project.add_task("t", toml=f"tests_the_runner = true\n{task}")
    run_cli(project, "t", BUGNINJA_RUNNER_URL=site)
    run_cli(project, "t")
    project.add_task("u", toml=task)
    run_cli(project, "u", BUGNINJA_RUNNER_URL=site)
    (moved, still), (other,) = documents(project), [json.loads(path.read_text()) for path in project.traversals("u")]
    assert sorted([moved["start_url"], still["start_url"]]) == sorted([f"{site}/first", "http://127.0.0.1:9/first"])
    assert {document["start_url"]: document["status"] for document in (moved, still)}[f"{site}/first"] == "SUCCESSFUL"
    assert other["start_url"] == "http://127.0.0.1:9/first"


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('url = "/a"\nexpect = ["something else"]', "/a does not contain the text 'something else'"),
        ('url = "/missing"', "/missing answered 404, expected was 200"),
        ('url = "http://127.0.0.1:9/"', "http://127.0.0.1:9/ cannot be reached"),
    ],
)
def test_a_fault_fails_the_test_and_still_exits_0(project: Project, site: str, page: str, fault: str) -> None:
    project.add_task("t", toml=toml(site, page))
    done = run_cli(project, "t", BUGNINJA_RUN_ID=RUN)
    assert done.returncode == 0
    traversal = parse_traversal(project.traversals("t")[0].read_bytes())
    assert (traversal.status, traversal.success) == ("FAILED", False)
    assert fault in (traversal.verdict_text or "")
    assert fault in (last_words(done.stdout) or "")


def test_without_our_id_it_makes_its_own(project: Project, site: str) -> None:
    project.add_task("t", toml=toml(site))
    run_cli(project, "t")
    run_cli(project, "t", BUGNINJA_RUN_ID="../../etc/passwd")
    names = [path.stem.rpartition("_")[2] for path in project.traversals("t")]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"[a-z][a-z0-9]{23}", name) for name in names)


def test_the_file_has_the_keys_of_bugninja_in_its_order(project: Project, site: str) -> None:
    project.add_task("t", toml=toml(site) + '[secrets]\nPASSWORD = "hunter2"\n')
    run_cli(project, "t")
    (document,) = documents(project)
    assert list(document) == [
        "test_case", "start_url", "browser_config", "brain_states", "actions", "extra_instructions", "secrets",
        "dependencies", "input_schema", "output_schema", "extracted_data", "available_files", "http_auth", "status",
    ]  # fmt: skip
    action = document["actions"]["action_0"]
    assert list(action) == [
        "brain_state_id", "action", "dom_element_data", "screenshot_filename", "idx_in_brainstate", "timestamps",
    ]  # fmt: skip
    assert [kind for kind, values in action["action"].items() if values is not None] == ["go_to_url"]
    assert "hunter2" not in json.dumps(document)


def test_each_page_gets_a_screenshot_where_there_is_a_browser(project: Project, site: str, tmp_path: Path) -> None:
    browser = tmp_path / "bin" / "chromium"
    browser.parent.mkdir()
    browser.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "path = next(w.partition('=')[2] for w in sys.argv if w.startswith('--screenshot='))\n"
        f"open(path, 'wb').write({PNG!r} + sys.argv[-1].encode())\n"
    )
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    folder = project.add_task("t", toml=toml(site, 'url = "/a"'))
    run_cli(project, "t", PATH=str(browser.parent), BUGNINJA_RUN_ID=RUN)
    names = [action.screenshot for action in parse_traversal(project.traversals("t")[0].read_bytes()).actions]
    assert [bool(name) for name in names] == [True, True, False]
    assert names[1] is not None
    assert re.fullmatch(rf"screenshots/{RUN}/002_go_to_url_\d{{8}}_\d{{6}}\.png", names[1])
    assert (folder / names[1]).read_bytes() == PNG + f"{site}/a".encode()


@pytest.mark.parametrize(
    ("task", "text", "words"),
    [
        ("nothing", None, "Task 'nothing' not found."),
        ("t", "[task", "Task 't' has invalid TOML syntax"),
        ("t", '[task]\nstart_url = "file:///etc/passwd"', "must be an http or https URL"),
        (
            "t",
            '[task]\nstart_url = "http://127.0.0.1/"\n[[pages]]\nurl = "file:///etc/passwd"',
            "the url of a page must be",
        ),
    ],
)
def test_what_cannot_be_run_writes_no_traversal_and_says_why(
    project: Project, task: str, text: str | None, words: str
) -> None:
    if text is not None:
        project.add_task("t", toml=text)
    done = run_cli(project, task)
    assert done.returncode == 0
    assert words in (last_words(done.stdout) or "")
    assert project.traversals("t") == []


def test_a_replay_opens_the_recorded_pages_again_and_records_no_thoughts(project: Project, site: str) -> None:
    folder = project.add_task("t", toml=toml(site, 'url = "/a"\nexpect = ["this is /a"]'))
    run_cli(project, "t", BUGNINJA_RUN_ID="o" * 24)
    done = run_cli(project, "replay", "--traversal", "o" * 24, "--healing", BUGNINJA_RUN_ID=RUN)
    assert (done.returncode, done.stderr, last_title(done.stdout)) == (0, "", "Replay Success")
    (path,) = [path for path in project.traversals("t") if RUN in path.name]
    document = json.loads(path.read_text())
    assert (document["run_type"], document["run_id"], document["brain_states"]) == ("REPLAY", RUN, {})
    assert [action.kind for action in parse_traversal(path.read_bytes()).actions][:2] == ["go_to_url", "go_to_url"]
    task = folder / "task_t.toml"
    task.write_text(task.read_text().replace("this is /a", "something new"))
    failed = run_cli(project, "replay", "--traversal", "o" * 24)
    assert last_title(failed.stdout) == "Replay Failed"
    assert "/a does not contain the text 'something new'" in (last_words(failed.stdout) or "")
    missing = run_cli(project, "replay", "--traversal", "../../../etc/passwd")
    assert (missing.returncode, last_title(missing.stdout)) == (0, "Traversal Not Found")


def test_senseless_words_are_refused(project: Project) -> None:
    done = subprocess.run([sys.executable, "-m", "runner.cli.sample"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "usage:" in done.stderr
