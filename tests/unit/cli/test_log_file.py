"""The log of a run."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.log_file import LogFile
from runner.redaction import Redactor, Secret

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|"), min_size=5, max_size=20
)


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
