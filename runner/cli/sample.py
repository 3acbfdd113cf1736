"""The sample CLI: a small real tester for a machine without Bugninja, a model or a browser.

`python -m runner.cli.sample run TASK`, in a project's folder, fetches the task's `start_url` and then each of its
`[[pages]]` over HTTP, checks status and expected texts, and writes its traversal as Bugninja 0.1.6 does: the same file
name and keys, after each action, by rename; the ID is BUGNINJA_RUN_ID or a CUID2 of its own; exit code 0 either way.
With a Chromium on the PATH each page gets a screenshot. `replay --traversal RUN_ID` opens the pages of a recording
again, with what the task expects of them, and records no thoughts.

A page is `url` (relative to `start_url`), `status` (200 unless given) and `expect` (a list of texts). With
`tests_the_runner = true` above all tables, `start_url` is looked up where the runner is now (BUGNINJA_RUNNER_URL).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from runner.cli.command import RUN_ID_VARIABLE, URL_VARIABLE
from runner.ids import new_run_id, parse_run_id, parse_task_id
from runner.project.task import parse_task, task_toml
from runner.project.traversal import parse_traversal

USAGE = "usage: python -m runner.cli.sample run TASK | replay --traversal RUN_ID [--healing]"
FETCH_SECONDS = 10
FETCH_BYTES = 2_000_000
SCREENSHOT_SECONDS = 20
PANEL_WIDTH = 80
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ACTION_TYPES = [
    "done",
    "go_to_url",
    "go_back",
    "wait",
    "click_element_by_index",
    "input_text",
    "switch_tab",
    "open_tab",
    "close_tab",
    "extract_content",
    "get_ax_tree",
    "send_keys",
    "get_dropdown_options",
    "select_dropdown_option",
    "full_page_scroll_down",
    "quarter_page_scroll_down",
    "quarter_page_scroll_up",
    "full_page_scroll_up",
    "third_party_authentication_wait",
    "close_overlay",
    "hover_direct",
    "upload_file",
]


class CannotRun(Exception):
    """The test cannot be run at all. `title` is the title of the panel that says so."""

    def __init__(self, title: str, message: str) -> None:
        self.title = title
        super().__init__(message)


@dataclass(frozen=True)
class Page:
    """One page to fetch, and what is expected of it."""

    url: str
    status: int
    expect: tuple[str, ...]


@dataclass(frozen=True)
class Script:
    """What a task asks this tester to do."""

    task_id: str
    description: str
    start_url: str
    extra_instructions: list[str]
    width: int
    height: int
    user_agent: str
    pages: tuple[Page, ...]

    @property
    def all_pages(self) -> tuple[Page, ...]:
        """The pages in their order, `start_url` first."""
        return (Page(self.start_url, 200, ()), *self.pages)


@dataclass(frozen=True)
class Answer:
    """What a server said; `status` is None if it said nothing, and then `text` says why."""

    status: int | None
    text: str


def read_script(project: Path, task_name: str) -> Script:
    """The task's script. Raises `CannotRun`."""
    task_id = parse_task_id(task_name)
    path = None if task_id is None else task_toml(project / "tasks", task_id)
    if task_id is None or path is None or not path.is_file():
        raise CannotRun("Task Not Found", f"Task '{task_name}' not found.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CannotRun("Task Not Found", f"Task '{task_name}' has invalid TOML syntax: {error}") from None
    task = parse_task(task_id, text, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    start_url = _start_url(document)
    if not isinstance(start_url, str) or urlsplit(start_url).scheme not in ("http", "https"):
        raise CannotRun("Execution Error", f"start_url must be an http or https URL, got {start_url!r}.")
    return Script(
        task_id=task_id,
        description=task.description,
        start_url=start_url,
        extra_instructions=[str(line) for line in document["task"].get("extra_instructions", [])],
        width=task.browser.viewport.width,
        height=task.browser.viewport.height,
        user_agent=task.browser.user_agent,
        pages=tuple(_page(start_url, page) for page in document.get("pages", [])),
    )


def _start_url(document: dict[str, Any]) -> Any:
    """The task's `start_url`; of a task that tests the runner itself, moved to where that is."""
    url, runner = document["task"].get("start_url"), os.environ.get(URL_VARIABLE)
    if runner and isinstance(url, str) and document.get("tests_the_runner") is True:
        return urljoin(runner, urlsplit(url).path)
    return url


def _page(start_url: str, page: dict[str, Any]) -> Page:
    url = urljoin(start_url, str(page.get("url", "")))
    if urlsplit(url).scheme not in ("http", "https"):
        raise CannotRun("Execution Error", f"the url of a page must be an http or https URL, got {url!r}.")
    return Page(url, int(page.get("status", 200)), tuple(str(text) for text in page.get("expect", [])))


def fetch(url: str, user_agent: str) -> Answer:
    """What the server answers to a GET, error statuses included."""
    headers = {"User-Agent": user_agent or "bugninja-runner-sample-cli"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the scheme was checked)
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as response:  # noqa: S310
            return Answer(response.status, response.read(FETCH_BYTES).decode("utf-8", errors="replace"))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(FETCH_BYTES).decode("utf-8", errors="replace"))
    except (urllib.error.URLError, OSError) as error:
        return Answer(None, str(getattr(error, "reason", error)))


@dataclass
class Recording:
    """The traversal of one run, written anew after each action."""

    project: Path
    script: Script
    run_id: str
    began: datetime = field(default_factory=datetime.now)
    brain_states: dict[str, dict[str, str]] = field(default_factory=dict)
    actions: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_replay: bool = False

    @property
    def folder(self) -> Path:
        return self.project / "tasks" / self.script.task_id

    @property
    def path(self) -> Path:
        return self.folder / "traversals" / f"traverse_{self.began:%Y%m%d_%H%M%S}_{self.run_id}.json"

    def think(self, evaluation: str, goal: str) -> None:
        thought = {"evaluation_previous_goal": evaluation, "memory": f"{len(self.actions)} actions", "next_goal": goal}
        self.brain_states[new_run_id()] = thought

    def act(self, kind: str, parameters: dict[str, Any], page_url: str | None, status: str = "PENDING") -> None:
        """Record an action of the step that was begun last, with a screenshot of the page."""
        number = len(self.actions)
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} - Action: {json.dumps({kind: parameters})}", flush=True)
        self.actions[f"action_{number}"] = {
            "brain_state_id": list(self.brain_states)[-1],
            "action": {name: parameters if name == kind else None for name in ACTION_TYPES},
            "dom_element_data": None,
            "screenshot_filename": self.screenshot(number + 1, kind, page_url) if page_url else None,
            "idx_in_brainstate": 0,
            "timestamps": None,
        }
        self.write(status)

    def screenshot(self, number: int, kind: str, url: str) -> str | None:
        """The picture's path below the task's folder, or None where there is no browser or it fails."""
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            return None
        name = f"screenshots/{self.run_id}/{number:03d}_{kind}_{datetime.now():%Y%m%d_%H%M%S}.png"
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            options = ["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-sync"]
            options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
            options += ["--no-sandbox"] if os.geteuid() == 0 else []
            size = f"--window-size={self.script.width},{self.script.height}"
            command = [browser, *options, size, f"--screenshot={self.folder / name}", url]
            try:
                subprocess.run(command, timeout=SCREENSHOT_SECONDS, check=False, capture_output=True)
            except subprocess.TimeoutExpired:
                return None
        return name if (self.folder / name).is_file() else None

    def write(self, status: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.document(status), indent=4, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self.path)

    def document(self, status: str) -> dict[str, Any]:
        """The traversal, with Bugninja's keys in Bugninja's order."""
        size = {"width": self.script.width, "height": self.script.height}
        return {
            "test_case": self.script.description,
            "start_url": self.script.start_url,
            "browser_config": {
                "viewport": size,
                "window_size": size,
                "channel": "chromium",
                "user_data_dir": None,
                "user_agent": self.script.user_agent,
                "device_scale_factor": None,
                "color_scheme": "light",
                "accept_downloads": True,
                "proxy": None,
                "client_certificates": [],
                "extra_http_headers": {},
                "http_credentials": None,
                "java_script_enabled": True,
                "geolocation": None,
                "timeout": FETCH_SECONDS * 1000.0,
                "headers": None,
                "allowed_domains": None,
            },
            "brain_states": {} if self.is_replay else self.brain_states,
            "actions": self.actions,
            "extra_instructions": self.script.extra_instructions,
            "secrets": {},
            "dependencies": [],
            "input_schema": None,
            "output_schema": None,
            "extracted_data": {},
            "available_files": None,
            "http_auth": None,
            "status": status,
            **({"run_id": self.run_id, "run_type": "REPLAY"} if self.is_replay else {}),
        }


def open_pages(recording: Recording) -> str | None:
    """Do all that the script asks, up to the first fault; returns that fault, or None if there was none."""
    script = recording.script
    evaluation = "Unknown - starting"
    for page in script.all_pages:
        recording.think(evaluation, f"Open {page.url} and see that it answers {page.status}")
        answer = fetch(page.url, script.user_agent)
        recording.act("go_to_url", {"url": page.url}, page.url)
        fault = _status_fault(page, answer) or next(_missing_texts(recording, page, answer), None)
        if fault is not None:
            finish(recording, f"Failed - {fault}", fault, success=False)
            return fault
        evaluation = f"Success - {page.url} is as expected"
    finish(recording, evaluation, f"All {len(script.pages) + 1} pages are as expected", success=True)
    return None


def _status_fault(page: Page, answer: Answer) -> str | None:
    if answer.status is None:
        return f"{page.url} cannot be reached: {answer.text}"
    return None if answer.status == page.status else f"{page.url} answered {answer.status}, expected was {page.status}"


def _missing_texts(recording: Recording, page: Page, answer: Answer) -> Iterator[str]:
    for text in page.expect:
        recording.think("Success - the page is open", f"Find the text '{text}'")
        recording.act("extract_content", {"goal": f"find the text '{text}'"}, page.url)
        if text not in answer.text:
            yield f"{page.url} does not contain the text '{text}'"


def finish(recording: Recording, evaluation: str, text: str, *, success: bool) -> None:
    """Say that the test is done, and how it ended."""
    recording.think(evaluation, "Finish")
    recording.act("done", {"text": text, "success": success}, None, "SUCCESSFUL" if success else "FAILED")


def panel(title: str, message: str) -> str:
    """The message in a box, as Bugninja prints its last words."""
    inner = PANEL_WIDTH - 4
    body = [line for part in message.split("\n") for line in textwrap.wrap(part, inner) or [""]]
    return "\n".join(
        [f"╭{f' {title} ':─^{PANEL_WIDTH - 2}}╮", *(f"│ {line:<{inner}} │" for line in body), f"╰{'─' * (inner + 2)}╯"]
    )


def run(project: Path, task_name: str, run_id: str | None) -> str:
    """Test the task; returns the panel that says how it went."""
    try:
        script = read_script(project, task_name)
        recording = Recording(project, script, parse_run_id(run_id or "") or new_run_id())
        fault = open_pages(recording)
    except CannotRun as error:
        return panel(error.title, f"❌ {error}")
    if fault is None:
        return panel(
            "Task Completed", f"✅ Task '{task_name}' completed successfully!\nTraversal: {recording.path.name}"
        )
    return panel("Task Failed", f"❌ Task '{task_name}' failed!\n🚨 Error:\n{fault}")


def replay(project: Path, traversal_id: str, run_id: str | None) -> str:
    """Open the pages of a recording again; returns the panel that says how it went."""
    found = sorted(project.glob(f"tasks/*/traversals/traverse_*_{parse_run_id(traversal_id)}.json"))
    if len(found) != 1:
        return panel("Traversal Not Found", f"❌ Traversal not found: {traversal_id}")
    recorded = parse_traversal(found[0].read_bytes())
    opened = [action.parameters.get("url") for action in recorded.actions if action.kind == "go_to_url"]
    try:
        script = read_script(project, found[0].parts[-3])
    except CannotRun as error:
        return panel(error.title, f"❌ {error}")
    start_url, *pages = [page for page in script.all_pages if page.url in opened] or script.all_pages[:1]
    script = replace(script, start_url=start_url.url, pages=tuple(pages))
    recording = Recording(project, script, parse_run_id(run_id or "") or new_run_id(), is_replay=True)
    fault = open_pages(recording)
    if fault is None:
        return panel("Replay Success", "✅ Replay completed successfully!")
    return panel("Replay Failed", f"❌ Replay failed!\n🚨 Error:\n{fault}")


def main() -> None:
    """The command line. Exits 0 whatever the test found, like Bugninja; 1 if the words make no sense."""
    words = [word for word in sys.argv[1:] if word != "--healing"]  # nothing here can be repaired
    run_id = os.environ.get(RUN_ID_VARIABLE)
    if len(words) == 2 and words[0] == "run":
        print(run(Path.cwd(), words[1], run_id), flush=True)
    elif len(words) == 3 and words[:2] == ["replay", "--traversal"]:
        print(replay(Path.cwd(), words[2], run_id), flush=True)
    else:
        sys.exit(USAGE)


if __name__ == "__main__":
    main()
