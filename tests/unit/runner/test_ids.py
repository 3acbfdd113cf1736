"""Which texts are IDs."""

import pytest

from runner.errors import printable
from runner.ids import new_run_id, parse_run_id, parse_task_id

NOT_IDS = [
    "", ".", "..", "../x", "a/b", "%2e%2e", "-rf", "a\0b", "a" * 10_000, "UPPER", "ünï", "a b", "a\n", "٣",
]  # fmt: skip


def test_a_new_run_id_is_a_cuid2_of_24_characters_and_never_the_same() -> None:
    ids = {new_run_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(len(run_id) == 24 and parse_run_id(run_id) == run_id for run_id in ids)


@pytest.mark.parametrize("text", [*NOT_IDS, "a" * 23, "a" * 25, "1" + "a" * 23, "a" * 23 + "_"])
def test_nothing_else_is_a_run_id(text: str) -> None:
    assert parse_run_id(text) is None


@pytest.mark.parametrize("text", [*NOT_IDS, "a" * 129, "a-b", "a.b"])
def test_nothing_else_is_a_task_id(text: str) -> None:
    assert parse_task_id(text) is None


@pytest.mark.parametrize("text", ["a", "1_simple", "order_form", "a" * 128])
def test_names_of_task_folders_are_task_ids(text: str) -> None:
    assert parse_task_id(text) == text


def test_a_bad_id_is_shown_short_and_printable() -> None:
    assert printable("a\0b\nc") == "a?b?c"
    assert printable("x" * 10_000) == "x" * 60 + "..."
