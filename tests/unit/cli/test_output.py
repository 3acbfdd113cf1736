"""The CLI's last words."""

import pytest

from runner.cli.output import last_words
from runner.terminal import clean_text

NOISE = "2026-11-23 03:10:13 - Starting pipeline\n"


def box(title: str, *lines: str) -> str:
    return "\n".join([f"╭{f' {title} ':─^60}╮", *(f"│ {line:<58} │" for line in lines), f"╰{'─' * 60}╯"]) + "\n"


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("", None),
        ("\n \n", None),
        (NOISE + "boom: it broke\n", "boom: it broke"),
        ("Traceback (most recent call last):\n  File 'x', line 1\nValueError: no such thing\n", "ValueError: no such thing"),
        (box("Task Completed", "✅ Task 'a' completed"), None),
        (box("Task Not Found", "❌ Task 'x' not found.", "", "Available tasks:", "  • a"), "Task 'x' not found."),
        (
            box("Execution Error", "first") + box("Task Failed", "❌ Task 'x' failed!", "", "⏱ Execution time: 0.4 s",
                "🚨 Error:", "Failed to create the model: no key is", "set in the environment", "📋 Error Type: llm", "📝 Details:", "  {"),
            "Failed to create the model: no key is set in the environment",
        ),
        ("\x1b[31m" + box("Execution Error", "\x1b[1mRed. Second. Third.\x1b[0m"), "Red. Second."),
        (box("Task Failed", "🚨 Error:", "It broke", "╔═══╗", "║ ad ║", "╚═══╝"), "It broke"),
    ],
)  # fmt: skip
def test_the_last_words_are_those_of_the_last_error_panel(output: str, words: str | None) -> None:
    assert last_words(output) == words


def test_the_last_words_are_short() -> None:
    words = last_words("x" * 10_000)
    assert words is not None
    assert len(words) == 400


def test_clean_text_has_no_colours_and_no_control_characters() -> None:
    assert clean_text("\x1b[1;31mred\x1b[0m\x07\r\nnext\x00") == "red\nnext"
    assert clean_text("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\") == "link"
