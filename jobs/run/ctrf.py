"""Results as a report in the Common Test Report Format (https://ctrf.io). Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from jobs.run.results import MESSAGE_BYTES, Results, RunResult, clip, details, one_line, unique_names
from jobs.run.state import State

SPEC_VERSION = "0.0.0"  # the only one so far
OURS = "bugninja.runner"  # the name of what only we write
STATUSES = ("passed", "failed", "skipped", "pending", "other")
STATUS = {State.FINISHED: "passed", State.FAILED: "failed", State.ERROR: "failed"}
"""The format has no word for an ERROR, and who decides by its reports asks for `failed` alone: with `other`, a batch in
which nothing could be run would look as good as one that passed. `rawStatus` tells the two apart."""
ENVIRONMENT = {"branch": "branchName", "commit": "commit", "build": "buildUrl"}


def ctrf(results: Results, version: str) -> bytes:
    """The report, in JSON. A run that a user stopped is `skipped`, one that is not over is `pending`."""
    tests = [_test(name, run) for name, run in zip(unique_names(results.runs), results.runs, strict=True)]
    document = {
        "reportFormat": "CTRF",
        "specVersion": SPEC_VERSION,
        "results": {
            "tool": {"name": "bugninja-runner", "version": version},
            "summary": _summary(results, [test["status"] for test in tests]),
            "tests": tests,
            "environment": _environment(results),
        },
    }
    return msgspec.json.encode(document)


def _summary(results: Results, statuses: Sequence[str]) -> dict[str, int]:
    counts = Counter(statuses)
    start = _milliseconds(results.started_at)
    ends = (results.finished_at, *(run.finished_at for run in results.runs))
    stop = max(start, *map(_milliseconds, ends))
    return {"tests": len(statuses), **{status: counts[status] for status in STATUSES}, "start": start, "stop": stop}


def _milliseconds(time: datetime | None) -> int:
    return round(time.timestamp() * 1000) if time else 0


def _environment(results: Results) -> dict[str, str]:
    labels = {
        field: clip(results.labels[key], MESSAGE_BYTES) for key, field in ENVIRONMENT.items() if key in results.labels
    }
    return {"reportName": one_line(results.name) or results.id, **labels}


def _test(name: str, run: RunResult) -> dict[str, Any]:
    status = STATUS.get(run.state, "pending")
    test = {
        "name": name,
        "status": "skipped" if status == "failed" and run.is_skipped else status,
        "rawStatus": run.state,
        "duration": round(max(0.0, run.duration or 0.0) * 1000),
        "start": _milliseconds(run.started_at) or None,
        "stop": _milliseconds(run.finished_at) or None,
        "suite": [run.task_id],
        "filePath": run.file,
        "type": "e2e",
        "browser": run.browser and one_line(run.browser),
        **({} if status == "passed" else {"message": clip(run.why, MESSAGE_BYTES), "trace": details(run)}),
        "attachments": _attachments(run),
        "extra": {OURS: {"run_id": run.run_id, "task_id": run.task_id, "reason": run.reason}},
    }
    return {key: value for key, value in test.items() if value is not None}


def _attachments(run: RunResult) -> list[dict[str, str]] | None:
    if run.failure is None or run.failure.screenshot is None:
        return None
    return [{"name": "screenshot", "contentType": "image/png", "path": clip(run.failure.screenshot, MESSAGE_BYTES)}]
