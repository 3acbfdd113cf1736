"""The text that Prometheus reads."""

import re

from prometheus_client.parser import text_string_to_metric_families

from jobs.queue.places import QueueNumbers
from jobs.run.state import State
from jobs.status.metrics import BUCKETS, MEDIA_TYPE, NO_RUNS, Histogram, Numbers, exposition
from tests.stack import ROOT

COUNTS = (1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5)
NUMBERS = Numbers(
    now={State.RUNNING: 2, State.FINISHED: 9},
    ended=[("buy", "FINISHED", "", 3), ("buy", "ERROR", "timeout", 1)],
    run_duration=Histogram(COUNTS, 99.5),
    queue_wait=Histogram((0, 7, *(0,) * 12), 10.0),
    first_step={True: Histogram((2, *(0,) * 13), 0.5)},
    verdicts={"buy": True, "sell": False},
)
QUEUE = QueueNumbers("bugninja", 2, {"busy": 2, "idle": 1}, {"queued": 3, "rate_limited": 4})
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(numbers: Numbers, queue: QueueNumbers | None) -> Samples:
    """All samples, by name and labels, as the parser of the library reads them."""
    text = exposition(numbers, queue).decode()
    found = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    by_name = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in found}
    assert len(by_name) == len(found) == len([line for line in text.splitlines() if not line.startswith("#")])
    return by_name


def of(found: Samples, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels in the order of the labels' names."""
    return {tuple(value for _, value in sorted(labels)): v for (key, labels), v in found.items() if key == name}


def test_the_numbers_are_said_as_prometheus_reads_them() -> None:
    text = exposition(NUMBERS, QUEUE).decode()
    assert MEDIA_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    assert [line for line in text.splitlines() if not re.match(r"#|.*_seconds_", line)] == [
        'bugninja_runner_runs_now{state="PENDING"} 0.0',
        'bugninja_runner_runs_now{state="RUNNING"} 2.0',
        'bugninja_runner_runs_total{reason="",state="FINISHED",task="buy"} 3.0',
        'bugninja_runner_runs_total{reason="timeout",state="ERROR",task="buy"} 1.0',
        'bugninja_runner_last_verdict{task="buy"} 1.0',
        'bugninja_runner_last_verdict{task="sell"} 0.0',
        "bugninja_runner_redis_up 1.0",
        "bugninja_runner_workers 2.0",
        'rq_jobs{queue="bugninja",status="queued"} 3.0',
        'rq_jobs{queue="bugninja",status="rate_limited"} 4.0',
        'rq_workers{state="busy"} 2.0',
        'rq_workers{state="idle"} 1.0',
    ]
    assert re.findall(r"# TYPE (\S+) (\S+)", text) == [
        ("bugninja_runner_runs_now", "gauge"),
        ("bugninja_runner_runs_total", "counter"),
        ("bugninja_runner_last_verdict", "gauge"),
        ("bugninja_runner_run_duration_seconds", "histogram"),
        ("bugninja_runner_queue_wait_seconds", "histogram"),
        ("bugninja_runner_first_step_seconds", "histogram"),
        ("bugninja_runner_redis_up", "gauge"),
        ("bugninja_runner_workers", "gauge"),
        ("rq_jobs", "gauge"),
        ("rq_workers", "gauge"),
    ]


def test_a_histogram_is_cumulative_and_ends_with_all_of_it() -> None:
    found = samples(NUMBERS, None)
    buckets = of(found, "bugninja_runner_run_duration_seconds_bucket")
    assert buckets == dict(
        zip(
            [(str(bound),) for bound in BUCKETS] + [("+Inf",)], [1, 1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 7, 12], strict=True
        )
    )
    assert of(found, "bugninja_runner_run_duration_seconds_count") == {(): 12.0}
    assert of(found, "bugninja_runner_run_duration_seconds_sum") == {(): 99.5}
    assert of(found, "bugninja_runner_queue_wait_seconds_count") == {(): 7.0}
    assert of(found, "bugninja_runner_queue_wait_seconds_sum") == {(): 10.0}
    assert of(found, "bugninja_runner_first_step_seconds_count") == {("true",): 2.0, ("false",): 0.0}
    assert of(found, "bugninja_runner_first_step_seconds_bucket")["1.0", "true"] == 2
    assert (BUCKETS[0], BUCKETS[-1], [*BUCKETS]) == (1, 3600, sorted({*BUCKETS}))


def test_without_redis_its_numbers_are_missing_and_not_zero() -> None:
    found = samples(NUMBERS, None)
    assert of(found, "bugninja_runner_redis_up") == {(): 0.0}
    assert of(found, "bugninja_runner_runs_now") == {("PENDING",): 0.0, ("RUNNING",): 2.0}
    missing = samples(NUMBERS, QUEUE).keys() - found.keys()
    assert {name for name, _ in missing} == {"bugninja_runner_workers", "rq_jobs", "rq_workers"}


def test_a_project_without_runs_has_empty_histograms() -> None:
    found = samples(NO_RUNS, QUEUE)
    assert of(found, "bugninja_runner_first_step_seconds_count") == {("true",): 0.0, ("false",): 0.0}
    assert of(found, "bugninja_runner_run_duration_seconds_bucket")["+Inf",] == 0
    assert of(found, "bugninja_runner_runs_total") == {}


def test_no_name_of_a_task_can_break_a_line() -> None:
    odd = 'a"b\\c\nd{} 1'
    found = samples(NO_RUNS._replace(ended=[(odd, "FINISHED", "", 1)], verdicts={odd: True}), None)
    assert of(found, "bugninja_runner_last_verdict") == {(odd,): 1.0}
    assert of(found, "bugninja_runner_runs_total") == {("", "FINISHED", odd): 1.0}


def test_the_documentation_names_these_metrics_and_no_others() -> None:
    families = set(re.findall(r"# TYPE (\S+)", exposition(NUMBERS, QUEUE).decode()))
    documentation = (ROOT / "docs" / "operations.md").read_text()
    named = re.findall(r"\b(?:bugninja_runner_\w+|rq_(?:jobs|workers)\w*)", documentation)
    assert {re.sub(r"(_seconds)_(bucket|sum|count)$", r"\1", name) for name in named} == families
    rows = re.findall(r"^\| `(\w+)({[a-z,]+})?` \| (?:gauge|counter|histogram) ", documentation, re.M)
    assert {name for name, _ in rows} == families
