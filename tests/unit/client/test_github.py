"""What GitHub is told of a batch, and that no text of a run tells it anything else."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.client.github import SUMMARY_BYTES, is_on, markdown, report

URL = "https://runner.example/ui/batches/" + "b" * 24
CARD = {
    "step": 3,
    "action": "click",
    "goal": "Open the cart",
    "message": "The cart is empty",
    "url": "https://shop.example/?a=1,2",
    "log_tail": ["line 1", "  ``` line 2"],
}
COMMAND = re.compile(r"::(error file=[^:,]*,title=[^:,]*|notice title=Bugninja)::[^\r\n]*")


def run(number: int, state: str = "FINISHED", **fields: Any) -> dict[str, Any]:
    return {
        "id": f"r{number:023}",
        "task_id": f"task_{number}",
        "test_name": f"Test {number}",
        "file": f"tasks/task_{number}/task_task_{number}.toml",
        "current_state": state,
        "reason": None,
        "message": None,
        "duration": 1.25,
        **fields,
    }


def batch(*runs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    states = [each["current_state"] for each in runs]
    counts = {
        "total": len(runs),
        "pending": states.count("PENDING"),
        "running": 0,
        "passed": states.count("FINISHED"),
        "failed": states.count("FAILED"),
        "error": states.count("ERROR"),
        "stopped": 0,
    }
    state = "FAILED" if "FAILED" in states else "FINISHED"
    return {"id": "b" * 24, "name": "", "current_state": state, "counts": counts, "runs": [*runs], **fields}


def cards(document: Mapping[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [
        {"id": each["id"], "failure": {**CARD, **fields}}
        for each in document["runs"]
        if each["current_state"] in ("FAILED", "ERROR")
    ]


class Told:
    """What was reported of a batch: the lines of the log, the summary, the outputs."""

    def __init__(self, folder: Path, document: Mapping[str, Any], page: str = URL, **fields: Any) -> None:
        self.files = {"GITHUB_STEP_SUMMARY": folder / "summary.md", "GITHUB_OUTPUT": folder / "output"}
        out = io.StringIO()
        environ = {name: str(path) for name, path in self.files.items()}
        report(document, cards(document, **fields), page, environ, out)
        self.log = out.getvalue()
        self.summary, self.output = (path.read_bytes().decode() for path in self.files.values())


def parse(text: str) -> list[Token]:
    """All tokens of the Markdown, as GitHub reads it, those within a line too."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    return [inner for token in tokens for inner in [token, *(token.children or [])]]


def outputs(text: str) -> dict[str, str]:
    found = re.findall(r"(?:\A|(?<=\n))([a-z-]+)<<([0-9a-f]{32})\n(.*?)\n\2\n", text, re.DOTALL)
    assert "".join(f"{name}<<{word}\n{value}\n{word}\n" for name, word, value in found) == text
    return {name: value for name, _, value in found}


@pytest.mark.parametrize(
    ("mode", "environ", "on"),
    [
        ("auto", {"GITHUB_ACTIONS": "true"}, True),
        ("auto", {"GITHUB_ACTIONS": "1"}, False),
        ("auto", {}, False),
        ("on", {}, True),
        ("off", {"GITHUB_ACTIONS": "true"}, False),
    ],
)
def test_it_reports_where_it_is_asked_to(mode: str, environ: dict[str, str], on: bool) -> None:
    assert is_on(mode, environ) is on


def test_a_failure_is_annotated_at_the_file_of_its_task(tmp_path: Path) -> None:
    told = Told(tmp_path, batch(run(1), run(2, "FAILED", test_name="Buy: a, b")), message="100%\r\nempty")
    assert told.log == (
        "::error file=tasks/task_2/task_task_2.toml,title=Buy%3A a%2C b%3A FAILED::100%25  empty%0A"
        "Step: 3%0AAction: click%0AURL: https://shop.example/?a=1,2%0AGoal: Open the cart\n"
    )


def test_failures_come_first_stopped_runs_last_and_no_more_than_ten(tmp_path: Path) -> None:
    stopped, errors = run(0, "ERROR", reason="stopped"), [run(n, "ERROR") for n in range(1, 9)]
    told = Told(tmp_path, batch(stopped, *errors, *[run(n, "FAILED") for n in range(9, 13)]))
    names = re.findall("title=Test ([0-9]+)", told.log)
    assert names == ["9", "10", "11", "12", "1", "2", "3", "4", "5", "6"]
    assert told.log.splitlines()[10:] == ["::notice title=Bugninja::3 more did not pass, see the summary of the job."]
    assert re.findall(r"### .* Test ([0-9]+):", told.summary)[-1] == "0"


def test_ten_failures_need_no_notice(tmp_path: Path) -> None:
    told = Told(tmp_path, batch(*[run(n, "FAILED") for n in range(10)]))
    assert len(told.log.splitlines()) == 10
    assert "notice" not in told.log


def test_a_run_without_a_card_says_what_the_batch_knows(tmp_path: Path) -> None:
    document = batch(run(1, "ERROR", message="It took too long"), run(2, "FAILED"))
    out = io.StringIO()
    report(document, [{"id": document["runs"][0]["id"], "failure": None}], URL, {}, out)
    assert [line.rpartition("::")[2] for line in out.getvalue().splitlines()] == [
        "The run ended as FAILED.",
        "It took too long",
    ]


def test_the_summary_has_counts_cards_and_a_table(tmp_path: Path) -> None:
    told = Told(tmp_path, batch(run(1), run(2, "FAILED"), run(3, "PENDING", duration=None), name="Nightly"))
    assert told.summary == (
        "## ❌ Bugninja: FAILED\n\n"
        f"1 passed, 1 failed, 1 pending of 3. [Open the batch]({URL})\n\n"
        "Nightly\n\n"
        "### ❌ Test 2: FAILED\n\n"
        "The cart is empty\n\n"
        "- Step: 3\n"
        "- Action: click\n"
        "- URL: https&#58;&#47;&#47;shop&#46;example&#47;&#63;a&#61;1,2\n"
        "- Goal: Open the cart\n\n"
        "````text\nline 1\n  ``` line 2\n````\n\n"
        f"[Open the run](https://runner.example/ui/runs/r{2:023})\n\n"
        "| State | Test | Task | Duration |\n"
        "|---|---|---|---|\n"
        "| ✅ FINISHED | Test 1 | task&#95;1 | 1.2 s |\n"
        "| ❌ FAILED | Test 2 | task&#95;2 | 1.2 s |\n"
        "| ⏳ PENDING | Test 3 | task&#95;3 |  |\n"
    )


def test_the_summary_is_appended_and_a_batch_that_passed_has_no_cards(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("before\n")
    told = Told(tmp_path, batch(run(1)))
    assert told.log == ""
    assert told.summary.startswith("before\n## ✅ Bugninja: FINISHED\n\n1 passed of 1. [")
    assert "###" not in told.summary
    assert "no runs of 0." in Told(tmp_path, batch()).summary


def test_a_card_has_the_end_of_the_log_without_colours(tmp_path: Path) -> None:
    log = ["\x1b[1;31mred\x1b[0m", *(f"line {n}" for n in range(25))]
    told = Told(tmp_path, batch(run(1, "FAILED")), log_tail=log[:1])
    assert "\n\n```text\nred\n```\n\n" in told.summary
    again = Told(tmp_path, batch(run(1, "FAILED")), log_tail=log)
    assert "\n\n```text\nline 5\nline 6\n" in again.summary
    assert "\nline 24\n```\n\n" in again.summary


def test_the_outputs_are_those_of_the_batch(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    told = Told(tmp_path, batch(run(1), run(2), run(3, "FAILED"), run(4, "ERROR")))
    expected = {"batch-id": "b" * 24, "state": "FAILED", "passed": "2", "failed": "1", "errors": "1", "url": URL}
    assert outputs(told.output) == expected
    assert (
        outputs(Told(tmp_path / "more", batch(), "http://x\nstate=FINISHED").output)["url"] == "http://x state=FINISHED"
    )
    words = re.findall("<<([0-9a-f]+)", told.output)
    assert words[0] != re.findall("<<([0-9a-f]+)", Told(tmp_path, batch()).output)[-1]


def test_a_summary_that_would_be_too_large_is_cut_between_cards(tmp_path: Path) -> None:
    document = batch(*[run(n, "FAILED", test_name="é|" * 100) for n in range(600)])
    told = Told(tmp_path, document, log_tail=["x" * 900] * 20)
    size = len(told.summary.encode())
    assert SUMMARY_BYTES - 30_000 < size <= SUMMARY_BYTES
    shown = told.summary.count("Open the run")
    assert f"\n{600 - shown} more failures are not shown here; see the page of the batch.\n" in told.summary
    assert told.summary.endswith("100 more runs are not shown here.\n")
    assert told.summary.count("\n| ❌") == 500
    again = Told(tmp_path, document)
    assert len(again.summary.encode()) - size < 2000  # the counts alone
    assert again.summary.endswith(f"[Open the batch]({URL})\n\n")


def test_files_that_cannot_be_written_are_said_and_nothing_else_fails(tmp_path: Path) -> None:
    out = io.StringIO()
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "none" / "x")}
    report(batch(), [], URL, environ, out)
    assert out.getvalue() == (
        "The summary of the job could not be written: Is a directory.\n"
        "The outputs of the step could not be written: No such file or directory.\n"
    )
    report(batch(), [], URL, {"GITHUB_OUTPUT": "a\0b"}, out)
    assert out.getvalue().endswith("The outputs of the step could not be written: no such file.\n")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://x/) <b> [a](http://y", "http://[::1]:80/ui/batches/b"])
def test_a_link_goes_to_the_page_or_nowhere(tmp_path: Path, url: str) -> None:
    told = Told(tmp_path, batch(), url)
    links = [token.attrs["href"] for token in parse(told.summary) if token.type == "link_open"]
    assert len(links) == url.startswith("http")
    assert "](javascript" not in told.summary
    assert all(str(link).startswith("http://") for link in links)


COMMANDS = ("::error::x", "%0A::stop-commands::x", "\r\n::add-mask::a", "  ::debug::x")
BLOCKS = ("    ", "- ", "1. ", "> ", "---", "===", "# ", "|", "\n", "\n\n", "```", "~~~", "|---|---|", "[a]: http://b")
HTML = ("<b>", "</details>", "<!--", "<script>", "&lt;", "&#64;", "<http://a>", "<a@b.co>")
LINKS = ("![a](http://b)", "[a](http://b)", "@octocat", "#1", "www.example.com", "http://a.b", "a@b.co")
INLINE = ("`", "\\", "*", "_", "~~", "$a$", "word", " ")
UNSEEN = ("\x1b[31m", "\x00", "\ud800", "\u2028", "\x85", "\u202e", "\x0b", "\t")
PARTS = st.sampled_from([*COMMANDS, *BLOCKS, *HTML, *LINKS, *INLINE, *UNSEEN])
FOREIGN = st.lists(PARTS, max_size=12).map("".join) | st.text(st.characters(exclude_categories=()), max_size=40)
FAILURES = st.fixed_dictionaries(
    {
        "step": st.integers(1, 9),
        "action": FOREIGN,
        "goal": FOREIGN | st.none(),
        "message": FOREIGN | st.none(),
        "url": FOREIGN,
        "log_tail": st.lists(FOREIGN, max_size=4),
    }
)


@settings(max_examples=150, deadline=None)
@given(FOREIGN, FOREIGN, FOREIGN, FAILURES)
def test_no_text_of_a_run_breaks_out(
    tmp_path_factory: pytest.TempPathFactory, name: str, file: str, why: str, failure: dict[str, Any]
) -> None:
    document = batch(run(1, "FAILED", test_name=name, file=file, message=why), run(2, task_id=name), name=why)
    told = Told(tmp_path_factory.mktemp("told"), document, **failure)
    assert all(COMMAND.fullmatch(line) for line in re.split("[\r\n]", told.log)[:-1])
    tokens = parse(told.summary)
    kinds = [token.type for token in tokens]
    assert kinds.count("link_open") == 2  # ours: of the batch, and of the run
    assert not {"html_inline", "html_block", "image", "em_open", "strong_open", "code_inline", "code_block"} & {*kinds}
    assert not {"hr", "blockquote_open", "ordered_list_open", "softbreak", "hardbreak"} & {*kinds}
    assert (kinds.count("heading_open"), kinds.count("tr_open"), kinds.count("td_open")) == (2, 3, 8)
    assert kinds.count("fence") == bool(failure["log_tail"])
    texts = [token.content for token in tokens if token.type == "text"]
    assert not [text for text in texts if re.search("[@#][A-Za-z0-9]", text)]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", told.summary + told.log)


def test_markdown_shows_the_text_as_it_is() -> None:
    text = "a *b* <c> [d](e) `f` | g_h & @i #2 \\ $1 100%, ok?"
    shown = "".join(token.content for token in parse(markdown(text)) if token.type == "text")
    assert shown.replace("\u200b", "") == text
    assert markdown("  x\n\ty  ") == "x  y"
    assert (markdown(None), markdown("a" * 200)) == ("", "a" * 99 + "…")
