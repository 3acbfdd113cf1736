"""What GitHub Actions shows of a batch: annotations, the summary of the job, and the outputs of the step."""

import re
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

Document = Mapping[str, Any]

ANNOTATIONS = 10  # of one kind that GitHub shows for a step
SUMMARY_BYTES = 900_000  # GitHub refuses more than 1 MiB
ROWS = 500  # of the table of runs
LONGEST = 2000  # characters of a message
LONGEST_NAME = 100
LOG_LINES = 20
COUNTS = ("passed", "failed", "error", "stopped", "running", "pending")
MARKS = {"FINISHED": "✅", "FAILED": "❌", "ERROR": "⚠️"}
UNSEEN = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
PUNCTUATION = re.compile(r"[!-+\--/:-@\[-`{-~]")  # all of ASCII but the comma


def is_on(mode: str, environ: Mapping[str, str]) -> bool:
    """Whether to report to GitHub: `on`, or `auto` in a job of GitHub Actions."""
    return mode == "on" or (mode == "auto" and environ.get("GITHUB_ACTIONS") == "true")


def report(document: Document, cards: Sequence[Document], url: str, environ: Mapping[str, str], out: TextIO) -> None:
    """Tell GitHub of a batch: `cards` are the documents of its runs that did not pass, `url` is its page.

    A file of GitHub's that cannot be written is said in the log of the job.
    """
    failures = _failures(document, cards)
    out.writelines(f"{line}\n" for line in annotations(failures))
    with _said(out, "The summary of the job"):
        if path := environ.get("GITHUB_STEP_SUMMARY"):
            taken = Path(path).stat().st_size if Path(path).exists() else 0
            _append(path, summary(document, failures, url, SUMMARY_BYTES - taken))
    with _said(out, "The outputs of the step"):
        if path := environ.get("GITHUB_OUTPUT"):
            _append(path, outputs(document, url))


@contextmanager
def commands_off(is_on: bool, out: TextIO) -> Iterator[None]:
    """Inside it GitHub takes no line of the log for a command, whatever a test makes us print."""
    word = secrets.token_hex(16)
    if is_on:
        out.write(f"::stop-commands::{word}\n")
    try:
        yield
    finally:
        if is_on:
            sys.stdout.flush()
            out.write(f"::{word}::\n")


@contextmanager
def _said(out: TextIO, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        out.write(f"{what} could not be written: {clean(getattr(error, 'strerror', None) or 'no such file', 200)}.\n")


def _append(path: str, text: str) -> None:
    with Path(path).open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _failures(document: Document, cards: Sequence[Document]) -> list[dict[str, Any]]:
    """The runs that did not pass with what their cards say, failed tests first and stopped runs last."""
    of_run = {card["id"]: card for card in cards}
    runs = [run for run in document["runs"] if run["current_state"] in ("FAILED", "ERROR")]
    runs.sort(key=lambda run: (run["current_state"] != "FAILED", run.get("reason") == "stopped"))
    return [{**run, "failure": (of_run.get(run["id"]) or {}).get("failure") or {}} for run in runs]


def annotations(failures: Sequence[Document]) -> Iterator[str]:
    """The commands that GitHub turns into annotations at the tasks' files."""
    for run in failures[:ANNOTATIONS]:
        title = f"{_name(run)}: {run['current_state']}"
        facts = [f"{name}: {clean(value, LONGEST_NAME)}" for name, value in _facts(run)]
        message = "\n".join([clean(_why(run), LONGEST), *facts])
        yield f"::error file={_property(run.get('file'))},title={_property(title)}::{_data(message)}"
    if (more := len(failures) - ANNOTATIONS) > 0:
        yield f"::notice title=Bugninja::{more} more did not pass, see the summary of the job."


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: Any) -> str:
    return _data(clean(text, LONGEST)).replace(":", "%3A").replace(",", "%2C")


def summary(document: Document, failures: Sequence[Document], url: str, room: int) -> str:
    """Markdown: the counts, a card per failure, a table of all runs; in at most so many bytes, or only the counts."""
    head, table = _head(document, url), _table(document["runs"])
    room -= _size(head) + LONGEST  # for the line that says what is left out
    if room < _size(table):
        return head
    room -= _size(table)
    shown: list[str] = []
    for card in (_card(run, url) for run in failures):
        room -= _size(card)
        if room < 0:
            shown.append(
                f"{len(failures) - len(shown)} more failures are not shown here; see the page of the batch.\n\n"
            )
            break
        shown.append(card)
    return "".join([head, *shown, table])


def _size(text: str) -> int:
    return len(text.encode())


def _head(document: Document, url: str) -> str:
    counts = document["counts"]
    words = [f"{counts[name]} {name}" for name in COUNTS if counts.get(name)]
    title = f"{MARKS.get(document['current_state'], '⏳')} Bugninja: {markdown(document['current_state'])}"
    lines = [f"## {title}", f"{', '.join(words) or 'no runs'} of {counts['total']}. {_link('Open the batch', url)}"]
    return "\n\n".join([*lines, *filter(None, [markdown(document.get("name"), LONGEST_NAME)])]) + "\n\n"


def _card(run: Document, url: str) -> str:
    log = [clean(line, LONGEST) for line in (run["failure"].get("log_tail") or [])[-LOG_LINES:]]
    ticks = max((len(found) for line in log for found in re.findall("`+", line)), default=0)
    fence = "`" * max(3, ticks + 1)
    lines = [f"- {name}: {markdown(value, LONGEST)}" for name, value in _facts(run)]
    blocks = [
        f"### {MARKS[run['current_state']]} {markdown(_name(run))}: {markdown(run['current_state'])}",
        markdown(_why(run), LONGEST),
        "\n".join(lines),
        "\n".join([f"{fence}text", *log, fence]) if log else "",
        _link("Open the run", f"{url.partition('/ui/')[0]}/ui/runs/{run['id']}"),
    ]
    return "\n\n".join(filter(None, blocks)) + "\n\n"


def _table(runs: Sequence[Document]) -> str:
    rows = [
        f"| {MARKS.get(run['current_state'], '⏳')} {markdown(run['current_state'])} | {markdown(_name(run))} "
        f"| {markdown(run.get('task_id'), LONGEST_NAME)} | {_duration(run)} |"
        for run in runs[:ROWS]
    ]
    more = f"\n{len(runs) - ROWS} more runs are not shown here.\n" if len(runs) > ROWS else ""
    return "\n".join(["| State | Test | Task | Duration |", "|---|---|---|---|", *rows]) + f"\n{more}"


def _duration(run: Document) -> str:
    return "" if run.get("duration") is None else f"{run['duration']:.1f} s"


def _name(run: Document) -> str:
    return clean(run.get("test_name"), LONGEST_NAME).strip() or clean(run.get("task_id"), LONGEST_NAME)


def _why(run: Document) -> str:
    return str(run["failure"].get("message") or run.get("message") or f"The run ended as {run['current_state']}.")


def _facts(run: Document) -> list[tuple[str, Any]]:
    card = run["failure"]
    facts = (("Step", "step"), ("Action", "action"), ("URL", "url"), ("Goal", "goal"))
    return [(name, card[key]) for name, key in facts if card.get(key) not in (None, "")]


def _link(text: str, url: str) -> str:
    """A link to our own page; the URL as text if it is none that a browser opens."""
    if not re.match("https?://", url):
        return markdown(url, LONGEST)
    return f"[{text}]({quote(clean(url, LONGEST), safe=':/?#[]@&=+,;%')})"


def clean(text: Any, longest: int) -> str:
    """The text on one line, without what cannot be seen, and not longer than so many characters."""
    line = re.sub("[\t-\r]", " ", UNSEEN.sub("", str("" if text is None else text)))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def markdown(text: Any, longest: int = LONGEST_NAME) -> str:
    """The text as Markdown that shows it and does nothing else: it holds no mark-up, link or mention."""
    coded = PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", clean(text, longest).strip())
    return re.sub("(&#(?:64|35);)", "\\1\u200b", coded)  # GitHub looks for @name and #1 in what is rendered


def outputs(document: Document, url: str) -> str:
    """The outputs of the step, in the form of GITHUB_OUTPUT."""
    counts = document["counts"]
    values = {
        "batch-id": document["id"],
        "state": document["current_state"],
        "passed": counts["passed"],
        "failed": counts["failed"],
        "errors": counts["error"],
        "url": url,
    }
    word = secrets.token_hex(16)
    return "".join(f"{name}<<{word}\n{clean(value, LONGEST)}\n{word}\n" for name, value in values.items())
