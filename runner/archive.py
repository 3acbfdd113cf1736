"""The command line `bugninja-runner` as one file, with all that it needs: a bare Python 3.11 runs it."""

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

PACKAGES = ("click", "rich")  # pure Python; of what rich itself needs, nothing is used here
HERE = Path(__file__).parent
LINE = b"#!/usr/bin/env python3\n"
START = """import signal
import sys

if sys.version_info < (3, 11):
    sys.exit("Python must be 3.11 or newer, got %d.%d: run this file with another one." % sys.version_info[:2])
signal.signal(signal.SIGINT, signal.SIG_DFL)  # until all is loaded
from runner.client.main import main

main()
"""


@cache
def client_archive() -> bytes:
    """The file; the same bytes for the same versions of everything."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("__main__.py"), START)
        for name, path in sorted(_files()):
            archive.writestr(_entry(name), path.read_bytes())
    return LINE + content.getvalue()


def _files() -> Iterator[tuple[str, Path]]:
    """The names in the archive, and the files: code, and licences, which have to go with it."""
    for path in (HERE / "__init__.py", *(HERE / "client").glob("*.py")):
        yield path.relative_to(HERE.parent).as_posix(), path
    for package in PACKAGES:
        for file in distribution(package).files or ():
            if file.suffix == ".py" or "LICENSE" in file.name.upper():
                yield file.as_posix(), Path(str(file.locate()))


def _entry(name: str) -> zipfile.ZipInfo:
    """An entry with a fixed time."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry
