"""The web process starts whatever the tasks are like."""

import pytest

from tests.project import Project
from tests.unit.fake_stack import FakeStack


@pytest.mark.parametrize("toml", [None, "[task"])
def test_the_first_task_is_named_without_reading_it(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, toml: str | None
) -> None:
    project.add_task("buy", toml=toml)
    monkeypatch.setattr("runner.project.catalog.file_identity", lambda _: 1 / 0)
    with caplog.at_level("INFO"), FakeStack(project).client as client:
        assert client.get("/health").status_code == 200
    assert "execute-configuration/buy/buy_default" in caplog.text


def test_a_project_without_tasks_is_named(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with FakeStack(project).client as client:
        assert client.get("/health").status_code == 200
    assert "event=no_tasks" in caplog.text
