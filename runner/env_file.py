"""A `.env` file -> the variables in it, as python-dotenv reads them, except that a `$` in a value stays one."""

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from runner.errors import EnvFileBroken

LINE_END = re.compile(r"\r\n|\n|\r")
EXPECTED = "must be NAME=value, with a value in closed quotes or in none; it is not repeated here"


def read_env_file(path: Path) -> dict[str, str]:
    """The variables in the file, none if there is no file. A person has named it, so it may be whatever can be read,
    such as `/dev/null`. Raises `EnvFileBroken`, also if it is not readable."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EnvFileBroken(path.name, None, f"cannot be read: {error.strerror}") from None
    try:
        return parse_env_file(content.decode("utf-8"), path.name)
    except UnicodeDecodeError as error:
        line = 1 + len(LINE_END.findall(content[: error.start].decode("utf-8")))
        raise EnvFileBroken(path.name, line, "must be text in UTF-8; it is not repeated here") from None


def parse_env_file(text: str, name: str = ".env") -> dict[str, str]:
    """The variables in the text. Raises `EnvFileBroken` with the first line that cannot be read, and without what is in
    it: that may be a secret. `name` is how the message calls the file."""
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(text)):
        if _is_broken(binding):
            raise EnvFileBroken(name, _line_of(binding), EXPECTED)
        values.update(_assigned(binding))
    return values


def readable_values(text: str) -> dict[str, str]:
    """The variables in the text, without the lines that cannot be read. Never raises."""
    return {name: value for binding in _readable(text) for name, value in _assigned(binding)}


def _readable(text: str) -> Iterator[Binding]:
    """The lines that can be read, also those that an open quote before them has swallowed."""
    for binding in parse_stream(StringIO(text)):
        if _is_broken(binding):
            for line in LINE_END.split(binding.original.string):
                yield from (found for found in parse_stream(StringIO(line)) if not _is_broken(found))
        else:
            yield binding


def _assigned(binding: Binding) -> Iterator[tuple[str, str]]:
    if binding.key is not None and binding.value is not None:
        yield binding.key, binding.value


def _is_broken(binding: Binding) -> bool:
    """Whether it is no assignment, no comment and no blank, or nothing that an environment can hold."""
    if binding.key is None:
        return binding.error
    return binding.value is None or "=" in binding.key or "\0" in binding.original.string


def _line_of(binding: Binding) -> int:
    """The number of its line, from 1; python-dotenv counts blank lines before it as a part of it."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + len(LINE_END.findall(blank))
