"""The CLI's last words."""

import pytest

from runner.cli.output import last_words
from runner.terminal import LONGEST_SEQUENCE, clean_text, unfinished_length

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


@pytest.mark.parametrize(
    "sequence",
    [
        *(f"\x1b{final}" for final in "0=>MOQWYZ\\`cz~"),
        *("\x1b(B", "\x1b #8", "\x1b[m", "\x1b[?25h", "\x1b[0 q", "\x1b[1;2~", "\x9b@", "\x84", "\x85", "\x80", "\x9f"),
        *(f"\x1b{start}text{end}" for start in "PX]^_" for end in ("\x07", "\x1b\\", "\x9c")),
        *(f"{start}text{end}" for start in "\x90\x98\x9d\x9e\x9f" for end in ("\x07", "\x1b\\", "\x9c")),
    ],
)
def test_clean_text_has_no_escape_sequences(sequence: str) -> None:
    assert clean_text(f"a{sequence}b") == "ab"
    assert [unfinished_length(sequence[:end]) for end in range(1, len(sequence))] == list(range(1, len(sequence)))
    assert unfinished_length(f"a{sequence}b\x1b[mc") == 0


def test_what_is_no_whole_sequence_stays_readable() -> None:
    assert clean_text("a\x1b]b\x1b[31mc\x07") == "a]bc"
    assert clean_text("a\x1b[31\x07m\x1b") == "a[31m"
    assert clean_text("a\rb\r\nc\td") == "a\nb\nc\td"
    assert [unfinished_length("a\r"), unfinished_length("a\r\n")] == [1, 0]
    assert clean_text("\ud800\x84") == "\ud800"
    assert clean_text("\x1b]\x07a\x1b]b\x07c\x07d") == "acd"
    assert unfinished_length("\x1b]" + "x" * (LONGEST_SEQUENCE - 2)) == LONGEST_SEQUENCE
    assert unfinished_length("\x1b]" + "x" * (LONGEST_SEQUENCE - 1)) == 0


@pytest.mark.parametrize("side", "│┃║")
def test_the_sides_of_a_panel_are_no_words(side: str) -> None:
    assert last_words(f"╭ Error ─╮\n{side} It broke {side}\n╰─╯\n") == "It broke"
