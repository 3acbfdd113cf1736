"""The retention policy in `bugninja.toml`."""

import pytest

from runner.project.project import RetentionPolicy, read_retention_policy
from tests.project import Project


@pytest.mark.parametrize(
    ("toml", "policy"),
    [
        ("", None),
        ("[project]", None),
        ("[retention_policy]", RetentionPolicy(14, 2)),
        ("[retention_policy]\nmax_age_days = 0\nother = 1", RetentionPolicy(0, 2)),
        ("[retention_policy]\nkeep_last_runs = 7\ncleanup_traversals = true", RetentionPolicy(14, 7)),
    ],
)
def test_the_policy_is_that_of_the_project_with_the_defaults_of_bugninja(
    project: Project, toml: str, policy: RetentionPolicy | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_retention_policy(project.root) is None, "there is no file"
    (project.root / "bugninja.toml").write_text(toml)
    assert read_retention_policy(project.root) == policy
    assert not caplog.text


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("[retention_policy", "bugninja.toml cannot be read"),
        ("retention_policy = 3", "it must be a table"),
        ("[retention_policy]\nmax_age_days = '14'", "max_age_days must be an integer from 0 on, got '14'"),
        ("[retention_policy]\nmax_age_days = -1", "max_age_days must be an integer from 0 on, got -1"),
        ("[retention_policy]\nkeep_last_runs = true", "keep_last_runs must be an integer from 0 on, got True"),
        ("[retention_policy]\nkeep_last_runs = 1.5", "keep_last_runs must be an integer from 0 on, got 1.5"),
        ("[retention_policy]\ncleanup_traversals = false", "cleanup_traversals must be true, got False"),
    ],
)
def test_a_policy_that_cannot_be_used_is_none_and_is_logged_once(
    project: Project, toml: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    (project.root / "bugninja.toml").write_text(toml)
    assert read_retention_policy(project.root) is None
    (record,) = caplog.records
    assert "event=retention_policy_ignored" in record.getMessage()
    assert problem in record.getMessage()
