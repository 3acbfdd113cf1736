"""Following a batch until it is over: by its events, and by asking where these do not come through."""

import json
import time
from collections.abc import Iterator

from runner.client.batches import Api, Batch, as_batch
from runner.client.connection import Answer, Unreachable, checked

FIRST_EVENT = 10.0  # seconds after which we ask, since something on the way holds events back
SILENCE = 40.0  # seconds: the server says something every 15
STREAMS = 20  # which may break, before we only ask
PAUSE = 0.3  # seconds after a wait that failed, since the next one may fail as quickly
WAIT = 20  # seconds after which the server answers although nothing has changed


def follow(api: Api, batch: Batch) -> Iterator[Batch]:
    """The batch at each change, until it is over. Raises `Failed`."""
    streams: int = STREAMS
    tag: str | None = None
    while not batch.over:
        heard = False
        if streams:
            for heard_of in events(api, batch):
                batch, heard, tag = heard_of, True, None
                yield batch
            streams = streams - 1 if heard else 0
        if not batch.over:
            batch, tag = changed(api, batch, tag)
            yield batch


def events(api: Api, batch: Batch) -> Iterator[Batch]:
    """The batch now and at each change, until it is over or the stream breaks."""
    try:
        for line in api.connection.lines(f"{batch.path}/events", FIRST_EVENT, SILENCE):
            if line.startswith(b"data:"):
                yield as_batch(batch.kind, json.loads(line[5:]))
    except (Unreachable, ValueError):
        return


def changed(api: Api, batch: Batch, tag: str | None) -> tuple[Batch, str]:
    """The batch as soon as it is not the one with this tag, or the same after some seconds; and its tag. Without one
    (None) it is the batch as it is now."""
    answer = awaited(api, batch, tag) if tag is not None else None
    answer = answer or api.connection.get(batch.path)
    if answer.status == 304:
        return batch, tag or ""
    return as_batch(batch.kind, answer.json()), answer.headers["ETag"] or ""


def awaited(api: Api, batch: Batch, tag: str) -> Answer | None:
    """What the server answers at the next change; None if it cannot be reached. Raises `Refused`."""
    headers = {"If-None-Match": tag} if tag else {}
    try:
        return checked(api.connection.once("GET", f"{batch.path}?wait={WAIT}", None, headers, WAIT + 10))
    except Unreachable:
        time.sleep(PAUSE)
        return None
