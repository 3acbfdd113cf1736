"""The log of a run."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.log_file import LogFile
from runner.redaction import Redactor, Secret
from runner.spellings import is_common

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|"), min_size=5, max_size=20
).filter(lambda value: not is_common(value))


def wrapped(text: str, at: int) -> str:
    return f"│ {text[:at]} │\n│ {text[at:]} │"


@given(st.data())
def test_a_log_holds_no_secret_however_the_output_arrives(data: st.DataObject) -> None:
    import tempfile

    secret = data.draw(SECRETS)
    text = data.draw(st.text(max_size=20)) + "\x1b[31m" + secret + "\x1b[0m\n" + wrapped(secret, len(secret) // 2)
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cli.log"
        log = LogFile(path, Redactor([Secret("S", secret)]))
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            log.feed(raw[start:end])
            so_far = path.read_text().replace("<secret>S</secret>", "\0")
            assert secret not in so_far
        log.close()
        written = path.read_text()
    assert "\x1b" not in written
    assert written.count("<secret>S</secret>") >= (2 if secret.isalnum() else 1)  # two of signs alone may become one


PIECES = [
    b"hunter2",
    b"hunt",
    b"er2",
    b"\x1b[31m",
    b"\x1b[",
    b"\x9b1m",
    b"\x1b]8;;http://x\x07",
    b"\x1bPq\x1b\\",
    b"\r\n",
    b"|",
    b"a\xc3",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(1, 9))
def test_no_escape_sequence_hides_a_secret_or_a_part_of_one(pieces: list[bytes], size: int) -> None:
    import tempfile

    raw = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cli.log"
        log = LogFile(path, Redactor([Secret("S", "hunter2")]))
        for start in range(0, len(raw), size):
            log.feed(raw[start : start + size])
        log.close()
        written = path.read_text()
    assert "hunter2" not in written.replace("\n", "").replace("|", "").replace(" ", "")
    assert written.count("<secret>S</secret>") >= raw.count(b"hunter2")
    assert "\x1b" not in written


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[hunter2 x", "<secret>S</secret> x"),
        (b"hun\x00ter2 hun\x1bter2 hun\xc2\x84ter2 hun\x9bter2", " ".join(4 * ["<secret>S</secret>"])),
        (b"\x1b]hunter2hun\x07ter2", 2 * "<secret>S</secret>"),
        (b"\x1b]hunter2hu\x07n\x1b[31mter2", "<secret>S</secret>nter2"),
        (b"hun\x1b]abc\x1b[31m\x07ter2", "hun]abcter2"),
        (b"hun\x1b]8;;http://" + 3000 * b"y" + b"\x1b\\ter2", "<secret>S</secret>"),
        (b"hun\x9b31mter2", "<secret>S</secret>"),
        (b"hun\x90q12\x9cter2 \xc3\xa9 \xff", "<secret>S</secret> \u00e9 \ufffd"),
        (b"a\x1b[31mb\x1b[0m\x1b(Bc", "abc"),
        (b"an end \x1b[31", "an end [31"),
    ],
)
def test_a_log_is_readable(raw: bytes, text: str, tmp_path: Path) -> None:
    for size in (1, 7, 10_000):
        path = tmp_path / f"{size}.log"
        log = LogFile(path, Redactor([Secret("S", "hunter2")]))
        for start in range(0, len(raw), size):
            log.feed(raw[start : start + size])
        log.close()
        assert path.read_text() == text


def test_a_log_follows_its_cli_without_waiting_for_the_end_of_a_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "cli.log", Redactor([Secret("S", "hunter2")]))
    log.feed(b"Continue? ")
    assert (tmp_path / "cli.log").read_text() == "Continue? "
    log.feed(b"hunt")
    assert (tmp_path / "cli.log").read_text() == "Continue? "
    log.feed(b"ing\n")
    assert (tmp_path / "cli.log").read_text() == "Continue? hunting\n"
    log.close()


def test_a_log_that_grows_without_end_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "cli.log", Redactor([]), kept_bytes=1000, tail_bytes=100)
    for number in range(1000):
        log.feed(f"line {number}\n".encode())
    log.close()
    text = (tmp_path / "cli.log").read_text()
    assert text.startswith("line 0\n")
    assert text.endswith("line 999\n")
    assert "bytes are left out here" in text
    assert len(text) < 1300


def test_a_full_disk_costs_the_log_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = LogFile(tmp_path / "cli.log", Redactor([]))
    monkeypatch.setattr("runner.cli.log_file.os.write", full)
    log.feed(b"one\n")
    log.feed(b"two\n")
    log.close()
    assert log.problem == "No space left on device"


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_log_is_not_written_to(tmp_path: Path, kind: str) -> None:
    path, outside = tmp_path / "cli.log", tmp_path / "outside"
    outside.write_text("as it was")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(outside)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"no regular file|not followed|Is a directory"):
        LogFile(path, Redactor([]))
    assert outside.read_text() == "as it was"


def test_a_log_that_is_there_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "cli.log"
    for word in (b"one\n", b"two\n"):
        log = LogFile(path, Redactor([]))
        log.feed(word)
        log.close()
    assert path.read_text() == "one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600
