"""The log of a run: what the CLI prints, without colours and without secrets, as it is printed.

Secrets are taken out before anything is written, so that the file can be served as it is.
"""

import codecs
import os
from pathlib import Path

from runner.files import open_to_write
from runner.redaction import RedactedStream, Redactor
from runner.terminal import C1_ERRORS, unfinished_length

KEPT_BYTES = 100 * 1024 * 1024  # of one log; then only its end is kept
TAIL_BYTES = 64 * 1024


class LogFile:
    """Writes one log. Not thread-safe: one thread feeds it."""

    def __init__(
        self, path: Path, redactor: Redactor, kept_bytes: int = KEPT_BYTES, tail_bytes: int = TAIL_BYTES
    ) -> None:
        """Open it. Of more than `kept_bytes`, only the last `tail_bytes` are kept. Raises `OSError`, also
        for a link or a FIFO."""
        self._kept_bytes, self._tail_bytes = kept_bytes, tail_bytes
        self._file = open_to_write(path, os.O_WRONLY | os.O_APPEND)
        self._stream = RedactedStream(redactor)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors=C1_ERRORS)
        self._raw = ""  # printed, and perhaps half an escape sequence
        self._written = 0
        self._left_out = 0
        self.problem: str | None = None
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Write what the CLI printed, except an end that may be the beginning of an escape sequence or of a secret."""
        text = self._raw + self._decoder.decode(chunk)
        whole = len(text) - unfinished_length(text)
        self._raw = text[whole:]
        self._write(self._stream.feed(text[:whole]))

    def close(self) -> None:
        """Write what is left, and close the file."""
        last = self._raw + self._decoder.decode(b"", final=True)
        self._write(self._stream.feed(last) + self._stream.close())
        if self._left_out:
            self._put(f"\n... {self._left_out} bytes are left out here ...\n".encode())
        self._put(self._tail)
        os.close(self._file)

    def _write(self, text: str) -> None:
        content = text.encode("utf-8", errors="replace")
        if self._written + len(content) <= self._kept_bytes and not self._tail:
            self._put(content)
            return
        self._tail += content
        self._left_out += max(0, len(self._tail) - self._tail_bytes)
        self._tail = self._tail[-self._tail_bytes :]

    def _put(self, content: bytes) -> None:
        """Write it. A full disk costs the rest of the log, not the run: the CLI must not hang on its output."""
        self._written += len(content)
        while content and self.problem is None:
            try:
                content = content[os.write(self._file, content) :]
            except OSError as error:
                self.problem = error.strerror
