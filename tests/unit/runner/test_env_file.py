"""Reading .env files."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.env_file import parse_env_file, read_env_file, readable_values
from runner.errors import EnvFileBroken


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("export A=1\nexport  B='2'", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\r\nB='2'\r\n\r\nC=3", {"A": "1", "B": "2", "C": "3"}),
        ("A=python -m x run {task_id}", {"A": "python -m x run {task_id}"}),
        ("A = 1  \n  B= 2", {"A": "1", "B": "2"}),
        ("A=abc#def", {"A": "abc#def"}),
        ("A=#def", {"A": "#def"}),
        ("A=abc # def\nB='x' # y\nC= # z\n# D=1\n", {"A": "abc", "B": "x", "C": ""}),
        ("A='a # b'\nB=\"a # b\"", {"A": "a # b", "B": "a # b"}),
        ("A=it's\nB='it\\'s'\nC=\"say \\\"x\\\"\"", {"A": "it's", "B": "it's", "C": 'say "x"'}),
        ("A=$HOME${HOME}$$\nB=\"${A}\"\nC='$A'", {"A": "$HOME${HOME}$$", "B": "${A}", "C": "$A"}),
        ('A="one\ntwo"\nB=1', {"A": "one\ntwo", "B": "1"}),
        ("A=\nB=''\nA=2", {"A": "2", "B": ""}),
        ("", {}),
    ],
)
def test_what_people_write_is_read_as_they_mean_it(text: str, values: dict[str, str]) -> None:
    assert parse_env_file(text) == values
    assert readable_values(text) == values


@pytest.mark.parametrize(
    ("text", "line", "readable"),
    [
        ('OPEN=1\nA="hunter2\nB=2', 2, {"OPEN": "1", "B": "2"}),
        ("A='hunter2\nB='2'\nC=3", 1, {"B": "2", "C": "3"}),
        ("\n\r\n# why\n\n  hunter2", 5, {}),
        ("A=1\r\n\r\nhunter2 hunter2\r\nB=2", 3, {"A": "1", "B": "2"}),
        ("export hunter2", 1, {}),
        ("=hunter2", 1, {}),
        ("A='x' hunter2", 1, {}),
        ("A=hunter2\0", 1, {}),
        ("'hunter2=b'=c\nD=1", 1, {"D": "1"}),
        ("A='hunter2\n'b=c'=d\nB=2", 1, {"B": "2"}),
        ("A=1\r\rhunter2\rB=2", 3, {"A": "1", "B": "2"}),
        ("A='hunter2\rB=2\r\nC=3", 1, {"B": "2", "C": "3"}),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_not_repeated(text: str, line: int, readable: dict[str, str]) -> None:
    with pytest.raises(EnvFileBroken) as caught:
        parse_env_file(text)
    assert str(caught.value).startswith(f".env, line {line}, must be NAME=value")
    assert "hunter2" not in str(caught.value)
    assert caught.value.line == line
    assert readable_values(text) == readable


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_has_values_for_an_environment_or_one_error(text: str) -> None:
    lenient = readable_values(text)
    assert not [name for name, value in lenient.items() if not name or "=" in name or "\0" in name + value]
    try:
        strict = parse_env_file(text)
    except EnvFileBroken as broken:
        assert broken.line in range(1, text.count("\n") + text.count("\r") + 2)  # noqa: PT017
    else:
        assert strict == lenient


def test_a_file_is_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert read_env_file(path) == {}
    path.write_bytes("\ufeffA=é\r\n".encode())
    assert read_env_file(path) == {"A": "é"}


def test_a_file_that_cannot_be_used_is_named_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "my.env"
    path.write_bytes(b"A=1\r\nB=\xc3\xa9\r\nC=hunter2\xff\n")
    with pytest.raises(EnvFileBroken) as caught:
        read_env_file(path)
    assert str(caught.value) == "my.env, line 3, must be text in UTF-8; it is not repeated here."
    path.write_text("A=1\nhunter2")
    with pytest.raises(EnvFileBroken, match=r"^my\.env, line 2, must be NAME=value"):
        read_env_file(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(EnvFileBroken) as caught:
        read_env_file(path)
    assert str(caught.value) == f"my.env cannot be read: {os.strerror(21)}."
    assert caught.value.line is None


def test_a_file_with_variables_may_be_the_null_device() -> None:
    assert read_env_file(Path(os.devnull)) == {}
