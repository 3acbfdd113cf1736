"""The geometry of plots."""

from jobs.page.plots import HEIGHT, WIDTH, duration_plot


def test_the_newest_run_is_at_the_right_and_the_longest_is_nearly_at_the_top() -> None:
    plot = duration_plot([("a", 5.0), ("b", 10.0), ("c", 2.5)], {"p50": 5.0, "p90": None})
    assert plot is not None
    assert [point.x for point in plot.points] == [WIDTH / 6, WIDTH / 2, WIDTH * 5 / 6]
    heights = {point.run_id: HEIGHT - point.y for point in plot.points}
    assert 0.9 < heights["b"] / HEIGHT < 1
    assert abs(heights["a"] - heights["b"] / 2) <= 0.1
    assert plot.levels == {"p50": plot.points[0].y}
    assert plot.line.split()[0] == f"{plot.points[0].x},{plot.points[0].y}"


def test_a_level_above_all_runs_is_in_the_plot() -> None:
    plot = duration_plot([("a", 1.0)], {"p90": 8.0})
    assert plot is not None
    assert 0 < plot.levels["p90"] < plot.points[0].y < HEIGHT


def test_runs_that_took_no_time_are_at_the_bottom() -> None:
    plot = duration_plot([("a", 0.0)], {"p50": 0.0})
    assert plot is not None
    assert plot.points[0].y == HEIGHT


def test_without_runs_there_is_no_plot() -> None:
    assert duration_plot([], {"p50": 1.0}) is None
