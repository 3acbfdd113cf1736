"""The table of all rows at the end."""

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line per row: what was killed, how its run ended, and after how many seconds that was known."""
    reports = [report for name in ("passed", "failed") for report in terminalreporter.stats.get(name, ())]
    lines = [dict(report.user_properties) for report in reports if report.when == "call"]
    table = sorted((line["row"], line["state"], line["seconds"]) for line in lines if "seconds" in line)
    for row, state, seconds in table:
        terminalreporter.write_line(f"{row:110} {state:22} {seconds:6.1f}")
    times = sorted(seconds for _, _, seconds in table)
    if times:
        middle = times[len(times) // 2]
        terminalreporter.write_line(
            f"{len(times)} rows, seconds to recover: {times[0]:.1f} {middle:.1f} {times[-1]:.1f}"
        )
