"""Results as a JUnit XML file that Jenkins (xUnit's `junit-10.xsd`) and GitLab read. Pure."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from jobs.run.results import Results, RunResult, details, one_line, unique_names
from jobs.run.state import State

NOT_PASSED = {State.FAILED: "failure", State.ERROR: "error"}


def junit_xml(results: Results, artifacts: str | None, *, file_of_case: bool = False) -> bytes:
    """The file: a suite per task, a case per run, each below 20 kB.

    `artifacts` is the folder in which a CI finds the pictures, as `RUN_ID.png`. Jenkins' schema allows `file` in a
    suite only, GitLab reads it from a case only: `file_of_case` writes it there, too.
    """
    root = Element("testsuites", name=one_line(results.name) or results.id, time=_seconds(results.duration))
    root.attrib |= _counts(results.runs)
    suites: dict[str, Element] = {}
    for name, run in zip(unique_names(results.runs), results.runs, strict=True):
        if run.task_id not in suites:
            suites[run.task_id] = _suite(root, [other for other in results.runs if other.task_id == run.task_id])
        case = SubElement(suites[run.task_id], "testcase", name=name, classname=run.task_id)
        case.attrib |= {"file": run.file} if file_of_case else {}
        case.set("time", _seconds(run.duration))
        _fill(case, run, artifacts)
    indent(root)
    return bytes(tostring(root, "utf-8", xml_declaration=True))


def _suite(root: Element, runs: Sequence[RunResult]) -> Element:
    suite = SubElement(root, "testsuite", name=runs[0].task_id, file=runs[0].file)
    suite.attrib |= _counts(runs)
    suite.set("skipped", str(sum(run.is_skipped for run in runs)))
    suite.set("time", _seconds(sum(run.duration or 0 for run in runs)))
    if started := [run.started_at for run in runs if run.started_at]:
        suite.set("timestamp", min(started).isoformat(timespec="seconds"))
    return suite


def _counts(runs: Sequence[RunResult]) -> dict[str, str]:
    kinds = [_kind(run) for run in runs]
    return {"tests": str(len(runs)), "failures": str(kinds.count("failure")), "errors": str(kinds.count("error"))}


def _kind(run: RunResult) -> str | None:
    return "skipped" if run.is_skipped else NOT_PASSED.get(run.state)


def _fill(case: Element, run: RunResult, artifacts: str | None) -> None:
    if kind := _kind(run):
        result = SubElement(case, kind, message=one_line(run.why.strip().partition("\n")[0]))
        result.text = details(run)
        if run.reason:
            result.set("type", run.reason)
    if artifacts is not None and run.failure and run.failure.screenshot:
        picture = PurePosixPath(one_line(artifacts)) / f"{run.run_id}.png"
        SubElement(case, "system-out").text = f"[[ATTACHMENT|{picture}]]"


def _seconds(duration: float | None) -> str:
    return f"{max(0.0, duration or 0.0):.3f}"
