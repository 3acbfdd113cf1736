"""The table of all rows at the end."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per row: what was killed, how its runs ended, the seconds until then, and until the next run had ended."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, ())]
    lines = [dict(report.user_properties) for report in reports if report.when == "call"]
    table = sorted((line["row"], line["state"], line["seconds"], line["next"]) for line in lines if "row" in line)
    for row, state, seconds, following in table:
        terminalreporter.write_line(f"{row:120} {state:30} {seconds:6.1f} {following:6.1f}")
    for name, times in (
        ("to recover", [row[2] for row in table]),
        ("to the end of the next", [row[3] for row in table]),
    ):
        if times:
            low, middle, high = min(times), sorted(times)[len(times) // 2], max(times)
            terminalreporter.write_line(f"{len(times)} rows, seconds {name}: {low:.1f} {middle:.1f} {high:.1f}")
