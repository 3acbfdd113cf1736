"""The log of a run: what the CLI prints, without colours and without secrets, as it is printed.

Secrets are taken out before anything is written, so that the file can be served as it is.
"""

import codecs
import os
from pathlib import Path

from runner.cli.output import clean_text, unfinished_escape
from runner.files import PRIVATE
from runner.redaction import Redactor

KEPT_BYTES = 100 * 1024 * 1024  # of one log; then only its end is kept
TAIL_BYTES = 64 * 1024


class LogFile:
    """Writes one log. Not thread-safe: one thread feeds it."""

    def __init__(
        self, path: Path, redactor: Redactor, kept_bytes: int = KEPT_BYTES, tail_bytes: int = TAIL_BYTES
    ) -> None:
        """Open it. Of more than `kept_bytes`, only the last `tail_bytes` are kept. Raises `OSError`."""
        self._kept_bytes, self._tail_bytes = kept_bytes, tail_bytes
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE)
        self._redactor = redactor
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._raw = ""  # printed, and perhaps half a colour at its end
        self._clean = ""  # without colours, and perhaps half a secret at its end
        self._written = 0
        self._left_out = 0
        self.problem: str | None = None
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Write what the CLI printed, except an end that may be the beginning of a colour or of a secret."""
        self._take(self._decoder.decode(chunk))
        ready, self._clean = self._redactor.split(self._clean)
        self._write(ready)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._take(self._decoder.decode(b"", final=True))
        self._write(self._redactor.text(self._clean + clean_text(self._raw)))
        if self._left_out:
            self._put(f"\n... {self._left_out} bytes are left out here ...\n".encode())
        self._put(self._tail)
        os.close(self._file)

    def _take(self, text: str) -> None:
        self._raw += text
        whole = len(self._raw) - unfinished_escape(self._raw)
        self._clean += clean_text(self._raw[:whole])
        self._raw = self._raw[whole:]

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
