"""What the variables of a CI say about a job."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.client.ci import SWITCHES, VARIABLES, idempotency_key, labels

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REF": "refs/heads/feature/cart",
    "GITHUB_SHA": "abc123",
    "GITHUB_JOB": "e2e",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "shop/web",
    "GITHUB_RUN_ID": "77",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_ACTION": "__run",
    "RUNNER_NAME": "Hosted Agent",
}
PULL = {**GITHUB, "GITHUB_REF": "refs/pull/12/merge", "GITHUB_HEAD_REF": "cart"}
OF_GITHUB = {"commit": "abc123", "job": "e2e", "build": "https://github.com/shop/web/actions/runs/77"}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_BRANCH": "main",
    "CI_COMMIT_SHA": "abc123",
    "CI_JOB_NAME": "e2e",
    "CI_JOB_URL": "https://gitlab/1",
}
BUILDKITE = {
    "BUILDKITE": "true",
    "BUILDKITE_BRANCH": "main",
    "BUILDKITE_COMMIT": "abc123",
    "BUILDKITE_PULL_REQUEST": "false",
    "BUILDKITE_LABEL": "End to end",
    "BUILDKITE_BUILD_URL": "https://buildkite/1",
}
JENKINS = {
    "JENKINS_URL": "https://jenkins/",
    "BRANCH_NAME": "main",
    "GIT_COMMIT": "abc123",
    "JOB_NAME": "e2e",
    "BUILD_URL": "https://jenkins/1",
}
KEY = re.compile("[!-~]{1,255}")


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({"PATH": "/bin", "GITHUB_SHA": "abc123"}, {}),
        ({**GITHUB, "GITHUB_ACTIONS": "false"}, {}),
        (GITHUB, {"ci": "github", "branch": "feature/cart", **OF_GITHUB}),
        (PULL, {"ci": "github", "branch": "cart", "pull_request": "12", **OF_GITHUB}),
        ({**GITHUB, "GITHUB_REF": "refs/tags/v1"}, {"ci": "github", **OF_GITHUB}),
        ({"GITHUB_ACTIONS": "true", "GITHUB_RUN_ID": "1"}, {"ci": "github"}),
        (
            GITLAB,
            {"ci": "gitlab", "branch": "main", "commit": "abc123", "job": "e2e", "build": "https://gitlab/1"},
        ),
        (
            {
                "GITLAB_CI": "true",
                "CI_MERGE_REQUEST_IID": "5",
                "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "cart",
                "CI_COMMIT_BRANCH": "x",
            },
            {"ci": "gitlab", "branch": "cart", "pull_request": "5"},
        ),
        (
            BUILDKITE,
            {
                "ci": "buildkite",
                "branch": "main",
                "commit": "abc123",
                "job": "End to end",
                "build": "https://buildkite/1",
            },
        ),
        (
            {"BUILDKITE": "true", "BUILDKITE_PULL_REQUEST": "9", "BUILDKITE_STEP_KEY": "e2e", "BUILDKITE_LABEL": "x"},
            {"ci": "buildkite", "pull_request": "9", "job": "e2e"},
        ),
        (
            JENKINS,
            {"ci": "jenkins", "branch": "main", "commit": "abc123", "job": "e2e", "build": "https://jenkins/1"},
        ),
        (
            {"JENKINS_URL": "x", "CHANGE_ID": "3", "CHANGE_BRANCH": "cart", "BRANCH_NAME": "PR-3", "GIT_BRANCH": "y"},
            {"ci": "jenkins", "pull_request": "3", "branch": "cart"},
        ),
        ({"JENKINS_URL": "x", "GIT_BRANCH": "origin/main"}, {"ci": "jenkins", "branch": "origin/main"}),
        ({**GITHUB, "JENKINS_URL": "x", "GITHUB_REF": ""}, {"ci": "github", **OF_GITHUB}),
    ],
)
def test_labels_are_what_the_ci_says(environ: dict[str, str], found: dict[str, str]) -> None:
    assert labels(environ) == found


NAMES = [*SWITCHES.values(), "JENKINS_URL", *GITHUB, *(n for v in VARIABLES.values() for ns in v.values() for n in ns)]
ENVIRONS = st.dictionaries(
    st.sampled_from(NAMES), st.just("true") | st.text(st.characters(exclude_categories=()), max_size=300)
)


@settings(max_examples=100, deadline=None)
@given(ENVIRONS, st.binary(max_size=20))
def test_the_server_takes_all_labels_and_keys(environ: dict[str, str], request: bytes) -> None:
    for key, value in labels(environ).items():
        assert re.fullmatch("[a-z0-9_.-]{1,32}", key)
        assert 0 < len(value) <= 200
        assert not re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value)
    key_of_request = idempotency_key(environ, request)
    assert key_of_request is None or KEY.fullmatch(key_of_request)


def test_long_values_are_cut_and_control_characters_left_out() -> None:
    environ = {"GITLAB_CI": "true", "CI_JOB_NAME": " a\x00\nb " + "c" * 300, "CI_COMMIT_SHA": "\x07"}
    assert labels(environ) == {"ci": "gitlab", "job": "ab " + "c" * 197}


def test_a_step_that_repeats_its_request_has_the_same_key() -> None:
    key = idempotency_key(GITHUB, b"request")
    assert key is not None
    assert re.fullmatch("github-77-1-e2e-[0-9a-f]{16}", key)
    assert key == idempotency_key(dict(GITHUB), b"request")


def test_a_key_is_short_and_plain_whatever_the_names() -> None:
    key = idempotency_key({**GITHUB, "GITHUB_JOB": "é " + "x" * 300, "RUNNER_NAME": "\udc80"}, b"request")
    assert key is not None
    assert KEY.fullmatch(key)
    assert key.startswith("github-77-1-__xxx")


@pytest.mark.parametrize(
    "change",
    ["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "GITHUB_ACTION", "RUNNER_NAME"],
)
def test_another_run_attempt_job_step_or_runner_has_another_key(change: str) -> None:
    key = idempotency_key(GITHUB, b"request")
    assert idempotency_key({**GITHUB, change: "other"}, b"request") != key
    assert idempotency_key(GITHUB, b"another") != key


@pytest.mark.parametrize("environ", [{}, GITLAB, BUILDKITE, JENKINS, {**GITHUB, "GITHUB_RUN_ID": ""}])
def test_there_is_no_key_where_two_steps_cannot_be_told_apart(environ: dict[str, str]) -> None:
    assert idempotency_key(environ, b"request") is None
    assert idempotency_key({**GITHUB, "GITHUB_ACTIONS": ""}, b"request") is None
