"""What a run of tests leaves behind for a CI: reports, and the pictures and logs of what did not pass."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from runner.client.batches import JSON, Api, Batch
from runner.client.connection import Answer, Failed, Refused

MOST_CARDS = 50


class Wanted(NamedTuple):
    """The files to write."""

    junit: Path | None = None
    ctrf: Path | None = None
    html: Path | None = None
    artifacts: Path | None = None

    def __bool__(self) -> bool:
        return any((self.junit, self.ctrf, self.html, self.artifacts))


def write(api: Api, batch: Batch, wanted: Wanted) -> list[str]:
    """Write the files. Returns a sentence for each that could not be written."""
    asked = {"artifacts": str(wanted.artifacts)} if wanted.artifacts else {}
    if os.environ.get("GITLAB_CI"):
        asked["dialect"] = "gitlab"
    junit = f"junit.xml?{urlencode(asked, errors='replace')}"
    files = {wanted.junit: junit, wanted.ctrf: "ctrf.json", wanted.html: "report.html"}
    wrong = [
        attempt(path, partial(download, api, f"{batch.path}/{name}", path)) for path, name in files.items() if path
    ]
    if wanted.artifacts:
        for run in batch.to_explain:
            wrong.append(attempt(wanted.artifacts, partial(save_artifacts, api, run.id, wanted.artifacts)))
            if not api.connection.patience:
                break
    return [sentence for sentence in wrong if sentence]


def attempt(path: Path, do: Callable[[], None]) -> str:
    """Why it could not be done; empty if it was."""
    try:
        do()
    except OSError as error:
        return f"{path} cannot be written: {error.strerror or error}."
    except Failed as error:
        return f"{path} cannot be written: {error}"
    return ""


def download(api: Api, source: str, path: Path) -> None:
    """Write what the server has there into a file. Raises `Failed`, `OSError`."""
    save(path, api.connection.get(source, raw=True).body)


def save(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all; a device is written as it is, a link stays one. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if (path.is_symlink() and path.is_relative_to("/dev")) or (path.exists() and not path.is_file()):
        with path.open("ab") as device:  # /dev/stdout may be a file that has a beginning
            device.write(content)
        return
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_artifacts(api: Api, run_id: str, folder: Path) -> None:
    """Write the log of a run, and its last picture. What it does not have is left out. Raises `Failed`, `OSError`."""
    failure = card(api, run_id).get("failure") or {}
    picture = failure.get("screenshot")
    paths = {".log": f"/test-runs/{run_id}/log", ".png": picture and "/" + quote(picture.lstrip("/"))}
    for ending, path in paths.items():
        if path and (answer := if_there(api, path)):
            save(folder / f"{run_id}{ending}", answer.body)


def if_there(api: Api, path: str) -> Answer | None:
    """A file of the server; None if there is none. Raises `Failed`."""
    try:
        return api.connection.get(path, raw=True)
    except Refused as error:
        if error.status in (404, 410):
            return None
        raise


def card(api: Api, run_id: str) -> JSON:
    """The document of a run. Raises `Failed`."""
    document: JSON = api.connection.get(f"/test-runs/{run_id}").json()
    return document


def cards(api: Api, batch: Batch) -> Iterator[JSON]:
    """The documents of the first runs that did not pass, until the server fails."""
    for run in batch.to_explain[:MOST_CARDS]:
        try:
            yield card(api, run.id)
        except Failed:
            return
