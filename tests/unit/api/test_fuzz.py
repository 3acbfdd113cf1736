"""Projects that a hostile page, CLI or disk has made: whatever is in them, every call is answered, and with no secret."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runner.cli.log_file import LogFile
from runner.redaction import Redactor, Secret
from tests.project import Project
from tests.unit.api.asking import MADE, OPEN, OVER, PICTURE, Asker, of
from tests.unit.fake_stack import FakeStack

SECRET = "pl4nted-s3cret"
OUTSIDE = "planted-outside"
LINES = ("Zm9vYmFyYmF6cXV4", "cXV1eGNvcmdlZ3Jh")
TEXTS = st.sampled_from(
    [SECRET, SECRET.upper(), f"a {SECRET}\n", f"\x1b[{SECRET}", f"pl4nted\x1b[0m-s3cret {LINES[0]}", "-" * 80 + "\n", LINES[1],
     "", "x", "\ud800", "\0", "<b>", "\x1b]8;;" * 9, "\ufeff", "NaN", "x" * 3000, "\u202e", "../../.env", "screenshots/a/1.png"]
)  # fmt: skip
NAMES = st.sampled_from(
    ["brain_states", "actions", "action_0", "action_1", "action", "done", "wait", "text", "success", "status", "memory", "xpath",
     "next_goal", "dom_element_data", "screenshot_filename", "brain_state_id", "secrets", "browser_config", "http_auth",
     "outcome", "state", "run_id", "task_id", "queued_at", "version", "epoch", SECRET, "\ud800"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**70, 1e308, float("nan"), float("inf"), "SUCCESSFUL", "FAILED"]),
    TEXTS,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=6)),
    max_leaves=20,
)
KINDS = st.sampled_from(["file"] * 12 + ["none", "fifo", "link", "loop", "folder"])


@st.composite
def traversals(draw: st.DrawFn) -> Any:
    """A traversal, or something like one."""
    step = st.fixed_dictionaries(
        {"action": st.dictionaries(NAMES, VALUES, max_size=3)}, optional={"brain_state_id": TEXTS}
    )
    document = {
        "brain_states": draw(st.dictionaries(TEXTS, st.dictionaries(NAMES, VALUES, max_size=4), max_size=3)),
        "actions": {
            f"action_{number}": value
            for number, value in enumerate(draw(st.lists(st.one_of(step, VALUES), max_size=4)))
        },
        "status": draw(st.sampled_from(["SUCCESSFUL", "FAILED", "PENDING", None])),
    }
    return draw(st.one_of(st.just(document), st.just({**document, draw(NAMES): draw(VALUES)}), VALUES))


@st.composite
def contents(draw: st.DrawFn, document: Any) -> bytes:
    """The JSON of the document, perhaps damaged."""
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    content = text.encode("utf-8", "surrogatepass")
    content = content[: draw(st.sampled_from([len(content)] * 5 + [len(content) // 2, 1, 0]))]
    return draw(st.sampled_from([b""] * 5 + [b"\xef\xbb\xbf", b"\xff", b"[" * 50_000])) + content


def put(path: Path, content: bytes, kind: str, outside: Path) -> None:
    """Make something of this kind at the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "file":
        path.write_bytes(content)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "none":
        path.symlink_to(outside if kind == "link" else path)


def record(run_id: str, more: dict[str, Any]) -> dict[str, Any]:
    own = {"run_id": run_id, "task_id": "buy", "test_case": None, "browser_config": None, "run_type": "AGENTIC"}
    return {**own, "origin": "WEB_UI", "queued_at": "2026-01-01T00:00:00Z", **more}


@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_whatever_is_in_a_project_every_call_is_answered_without_a_secret(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        root, outside = Path(name, "project"), Path(name, "outside")
        outside.write_text(json.dumps({"brain_states": {}, "actions": {}, "status": OUTSIDE, "secrets": OUTSIDE}))
        project = Project(root)
        folder = root / "tasks" / "buy"

        def make(path: str, content: bytes) -> None:
            put(folder / path, content, data.draw(KINDS), outside)

        secrets = f'[secrets]\nS = "{SECRET}"\nK = """-----BEGIN X-----\n{LINES[0]}\n{LINES[1]}\n-----END X-----\n"""\n'
        odd = data.draw(
            st.sampled_from(
                ["", "x = nan\n", f'priority = "{SECRET}"\n', "viewport_width = 1e400\n", f'category = "{LINES[0]}"\n']
            )
        )
        toml = f'[task]\nname = "{data.draw(st.sampled_from(["n", SECRET]))}"\n{odd}[run_config.geolocation]\nlatitude = inf\n{secrets}'
        put(folder / "task_buy.toml", toml.encode(), "file", outside)
        for run_id, more in (
            (of(OVER, "buy"), {"outcome": data.draw(VALUES)}),
            (of(OPEN, "buy"), {data.draw(NAMES): data.draw(VALUES)}),
        ):
            make(f"runs/{run_id}/run.json", data.draw(contents(record(run_id, more))).replace(SECRET.encode(), b"x"))
            make(f"traversals/traverse_20260101_080000_{run_id}.json", data.draw(contents(data.draw(traversals()))))
            make(f"runs/{run_id}/traversal-0.json", data.draw(contents(data.draw(traversals()))))
            make(f"runs/{run_id}/{data.draw(st.sampled_from(['lock', 'stop', 'reserve', 'kept-id', 'cli.log']))}", b"")
        made = data.draw(st.sampled_from([MADE, of(MADE, "buy")]))
        make(f"traversals/traverse_{data.draw(st.sampled_from(['20260101_080000', '99999999_999999', 'x']))}_{made}.json",
             data.draw(contents(data.draw(traversals()))))  # fmt: skip
        make(PICTURE, OUTSIDE.encode()[:0])
        if not (folder / "runs" / of(OVER, "buy") / "cli.log").is_symlink():
            log = data.draw(st.lists(TEXTS, max_size=5))
            write_log(folder / "runs" / of(OVER, "buy") / "cli.log", "".join(log))
        stack = FakeStack(project)
        with stack.client:
            ask = Asker(stack, [SECRET, SECRET.upper(), OUTSIDE, *LINES])
            ask.everything("buy")
            ask(f"/test-runs/{made}")
            ask.lists()


def write_log(path: Path, text: str) -> None:
    """What a CLI prints, as a worker writes it."""
    if path.is_fifo() or path.is_dir():
        return
    log = LogFile(path, Redactor([Secret("S", SECRET), *(Secret("K", line) for line in LINES)]))
    log.feed(text.encode("utf-8", "surrogatepass"))
    log.close()
