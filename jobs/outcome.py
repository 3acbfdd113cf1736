"""Record what happens to a run, on disk and in Redis. An outcome is recorded once; the first one stays."""

from datetime import UTC, datetime

import msgspec
from rq.job import Job

from jobs.meta import Outcome, RunMeta, meta_from_json, meta_to_job, meta_to_json
from jobs.verdict import Verdict
from runner.log import log_event
from runner.process import ProcessEnd
from runner.run_folder import RunFolder


def save(job: Job | None, folder: RunFolder, meta: RunMeta) -> None:
    """Keep the metadata on disk first, then in Redis (if there is a job): the disk is there also when Redis is not."""
    folder.write_record(meta_to_json(meta))
    if job is not None:
        job.meta = meta_to_job(meta)
        job.save_meta()


def close_run(
    folder: RunFolder, meta: RunMeta, verdict: Verdict | Outcome, job: Job | None, end: ProcessEnd | None = None
) -> RunMeta:
    """Record the run's end for good; returns the metadata that stands then, with the outcome that came first."""
    with folder.lock():
        there = meta_from_json(folder.read_record() or b"")
        if there is not None and there.outcome is not None:
            return there
        outcome = verdict if isinstance(verdict, Outcome) else _outcome(verdict, end)
        closed = msgspec.structs.replace(meta, outcome=outcome)
        log_event(
            "ended",
            run=meta.run_id,
            task=meta.task_id,
            state=outcome.state,
            reason=outcome.reason,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
        )
        folder.write_record(meta_to_json(closed))
    if job is not None:
        job.meta = meta_to_job(closed)
        job.save_meta()
    return closed


def _outcome(verdict: Verdict, end: ProcessEnd | None) -> Outcome:
    return Outcome(
        state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        finished_at=datetime.now(UTC),
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
    )
