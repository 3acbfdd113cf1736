"""The runs and their queue in numbers -> the text that Prometheus reads. Nothing is counted in this process."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from jobs.queue.places import QueueNumbers
from jobs.run.state import State

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
"""The upper bounds of the buckets of all histograms, in seconds; each is in its bucket."""
BOUNDS = [*map(floatToGoString, BUCKETS), "+Inf"]


class Histogram(NamedTuple):
    """Durations, counted by their length."""

    counts: Sequence[int]
    """How many are in each of BUCKETS and in no smaller one; then how many are longer than all of them."""
    total: float
    """The sum of the durations, in seconds."""


NOTHING = Histogram((0,) * len(BOUNDS), 0.0)


class Numbers(NamedTuple):
    """The runs of a project in numbers."""

    now: Mapping[State, int]
    """How many runs are in each state that is not final."""
    ended: Iterable[tuple[str, str, str, int]]
    """Tasks, final states, reasons (empty for none), and how many runs have ended so. It never falls."""
    run_duration: Histogram
    queue_wait: Histogram
    first_step: Mapping[bool, Histogram]
    """From the start of the CLI to its first step, by whether the start was warm."""
    verdicts: Mapping[str, bool]
    """Tasks, and whether their last run passed."""


NO_RUNS = Numbers({}, (), NOTHING, NOTHING, {}, {})


def exposition(numbers: Numbers, queue: QueueNumbers | None) -> bytes:
    """The text of MEDIA_TYPE. `queue` is None if Redis does not answer: then nothing that only Redis knows is in it."""
    return generate_latest(Metrics(numbers, queue))


class Metrics(Collector):
    """The metrics of these numbers."""

    def __init__(self, numbers: Numbers, queue: QueueNumbers | None) -> None:
        self._numbers, self._queue = numbers, queue

    def collect(self) -> Iterator[Metric]:
        yield from run_metrics(self._numbers)
        yield _gauge("bugninja_runner_redis_up", "Whether Redis answers.", [], [([], self._queue is not None)])
        if self._queue is not None:
            yield from queue_metrics(self._queue)


def run_metrics(numbers: Numbers) -> Iterator[Metric]:
    """What the records of the runs say."""
    now = [([state], numbers.now.get(state, 0)) for state in State if not state.is_final]
    yield _gauge("bugninja_runner_runs_now", "Runs that are not over.", ["state"], now)
    meaning = "Runs that are over, also those that were deleted since."
    ended = CounterMetricFamily("bugninja_runner_runs_total", meaning, labels=["task", "state", "reason"])
    for *labels, count in numbers.ended:
        ended.add_metric([str(label) for label in labels], count)
    yield ended
    verdicts = [([task], passed) for task, passed in numbers.verdicts.items()]
    yield _gauge("bugninja_runner_last_verdict", "1 if the last run of the task passed, else 0.", ["task"], verdicts)
    yield _histogram("run_duration", "From the start of a run to its end.", {"": numbers.run_duration})
    yield _histogram("queue_wait", "From the acceptance of a run to its start.", {"": numbers.queue_wait})
    by_warm = {str(warm).lower(): numbers.first_step.get(warm, NOTHING) for warm in (False, True)}
    yield _histogram("first_step", "From the start of the CLI to its first step.", by_warm, "warm")


def queue_metrics(queue: QueueNumbers) -> Iterator[Metric]:
    """What Redis says. Those of RQ have the names that its known exporter gives them."""
    yield _gauge("bugninja_runner_workers", "Workers that are alive.", [], [([], queue.alive)])
    jobs = [([queue.name, status], count) for status, count in queue.jobs.items()]
    yield _gauge("rq_jobs", "RQ jobs by status.", ["queue", "status"], jobs)
    workers = [([state], count) for state, count in queue.workers.items()]
    yield _gauge("rq_workers", "RQ workers by state.", ["state"], workers)


def _gauge(name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for value in values:
        family.add_metric(*value)
    return family


def _histogram(name: str, meaning: str, by_label: Mapping[str, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(f"bugninja_runner_{name}_seconds", meaning, labels=labels)
    for value, found in by_label.items():
        buckets = [*zip(BOUNDS, accumulate(found.counts), strict=True)]
        family.add_metric([value], buckets, found.total)
    return family
