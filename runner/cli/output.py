"""What the CLI printed -> its own last words about what went wrong. Pure.

Bugninja prints through `rich`: panels of box characters, 80 columns wide, with ANSI colours; the last panel names the
error (seen in 0.1.6).
"""

import re
from typing import NamedTuple

from runner.terminal import PANEL_SIDES, clean_text

PANEL_TOP = re.compile(r"^[╭┌┏╔][─━═]*(?P<title>[^─━═]*)[─━═]*[╮┐┓╗]\s*$")
PANEL_BOTTOM = re.compile(r"^[╰└┗╚]")
HEADING = re.compile(r"^(?:[^\w\s'\"<(\[{]\S*\s+)?(?:Execution time|Error|Original Error|Error Type|Details)\s*:", re.I)
ERROR_WORDS = re.compile(r"error|fail|not found|invalid|abort|exception|denied|refused", re.I)
SYMBOLS = re.compile(r"^[^\w'\"<(\[{/]+")
PICTURES = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f]")  # the emoji that Bugninja prints
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9'\"])")
LONGEST = 400  # characters of the last words


class Panel(NamedTuple):
    """A box that was printed, without its sides."""

    title: str
    body: list[str]


def last_title(text: str) -> str | None:
    """The title of the last panel that was printed; None if there is none."""
    panels = _panels(clean_text(text).split("\n"))
    return panels[-1].title if panels else None


def last_words(text: str) -> str | None:
    """At most two sentences from the end of the CLI's output that say what went wrong; None if nothing was printed."""
    lines = [line.rstrip() for line in clean_text(text).split("\n")]
    panel = _last_error_panel(lines)
    words = _first_paragraph(panel) if panel is not None else _last_line(lines)
    return _shorten(words) or None


def _panels(lines: list[str]) -> list[Panel]:
    panels: list[Panel] = []
    inside = False
    for line in map(str.rstrip, lines):
        if not inside and (top := PANEL_TOP.match(line)):
            panels.append(Panel(top.group("title").strip(), []))
            inside = True
        elif inside and PANEL_BOTTOM.match(line):
            inside = False
        elif inside:
            panels[-1].body.append(line.strip(PANEL_SIDES).strip())
    return panels


def _last_error_panel(lines: list[str]) -> list[str] | None:
    errors = [panel.body for panel in _panels(lines) if ERROR_WORDS.search(panel.title)]
    return errors[-1] if errors else None


def _first_paragraph(body: list[str]) -> str:
    """The panel's message: what follows its `Error:` heading if it has one, else its first lines, joined again."""
    start = next((i + 1 for i, line in enumerate(body) if _heading_name(line) == "error"), 0)
    message: list[str] = []
    for line in body[start:]:
        if message and (not line or HEADING.match(line) or line[:1] in "╔║╚"):
            break
        if line and not HEADING.match(line):
            message.append(line)
    return " ".join(message)


def _heading_name(line: str) -> str:
    return SYMBOLS.sub("", line).partition(":")[0].strip().lower() if HEADING.match(line) else ""


def _last_line(lines: list[str]) -> str:
    telling = [line for line in lines if line.strip() and not line.startswith((" ", "\t"))]
    return telling[-1] if telling else ""


def _shorten(words: str) -> str:
    plain = SYMBOLS.sub("", " ".join(PICTURES.sub(" ", words).split()))
    short = " ".join(SENTENCE_END.split(plain)[:2])
    return short if len(short) <= LONGEST else short[: LONGEST - 3].rstrip() + "..."
