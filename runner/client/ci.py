"""What the environment says about the CI job that this process is a part of. Pure."""

import hashlib
import re
from collections.abc import Mapping

LONGEST_VALUE = 200  # characters of a label that the server takes
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
SWITCHES = {"github": "GITHUB_ACTIONS", "gitlab": "GITLAB_CI", "buildkite": "BUILDKITE"}  # "true" in the CI
VARIABLES = {
    "gitlab": {
        "branch": ("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_BRANCH"),
        "commit": ("CI_COMMIT_SHA",),
        "pull_request": ("CI_MERGE_REQUEST_IID",),
        "job": ("CI_JOB_NAME",),
        "build": ("CI_JOB_URL",),
    },
    "buildkite": {
        "branch": ("BUILDKITE_BRANCH",),
        "commit": ("BUILDKITE_COMMIT",),
        "pull_request": ("BUILDKITE_PULL_REQUEST",),
        "job": ("BUILDKITE_STEP_KEY", "BUILDKITE_LABEL"),
        "build": ("BUILDKITE_BUILD_URL",),
    },
    "jenkins": {
        "branch": ("CHANGE_BRANCH", "BRANCH_NAME", "GIT_BRANCH"),
        "commit": ("GIT_COMMIT",),
        "pull_request": ("CHANGE_ID",),
        "job": ("JOB_NAME",),
        "build": ("BUILD_URL",),
    },
}
"""Which variables hold a label: the first that is not empty."""


def labels(environ: Mapping[str, str]) -> dict[str, str]:
    """Labels that say for what the CI started a batch: `ci`, `branch`, `commit`, `pull_request`, `job` and `build` (a
    URL), as far as they are known; none outside of a CI."""
    ci = next((name for name, switch in SWITCHES.items() if environ.get(switch) == "true"), None)
    if ci is None and environ.get("JENKINS_URL"):
        ci = "jenkins"
    if ci is None:
        return {}
    found = {"ci": ci, **(_of_github(environ) if ci == "github" else _of_variables(VARIABLES[ci], environ))}
    cleaned = {key: CONTROLS.sub("", value).strip()[:LONGEST_VALUE] for key, value in found.items()}
    return {key: value for key, value in cleaned.items() if value}


def _of_variables(variables: Mapping[str, tuple[str, ...]], environ: Mapping[str, str]) -> dict[str, str]:
    found = {key: next(filter(None, map(environ.get, names)), "") for key, names in variables.items()}
    return {key: value for key, value in found.items() if value != "false"}  # Buildkite's word for no pull request


def _of_github(environ: Mapping[str, str]) -> dict[str, str]:
    ref = environ.get("GITHUB_REF", "")
    pull = re.match(r"refs/pull/([0-9]+)/", ref)
    branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""
    place = [environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID")]
    return {
        "branch": environ.get("GITHUB_HEAD_REF") or branch,
        "commit": environ.get("GITHUB_SHA", ""),
        "pull_request": pull[1] if pull else "",
        "job": environ.get("GITHUB_JOB", ""),
        "build": "{}/{}/actions/runs/{}".format(*place) if all(place) else "",
    }


def idempotency_key(environ: Mapping[str, str], request: bytes) -> str | None:
    """A key that is the same when this step of a job of GitHub Actions sends the same request again; None elsewhere,
    where nothing tells two steps apart."""
    if environ.get("GITHUB_ACTIONS") != "true" or not environ.get("GITHUB_RUN_ID"):
        return None
    names = ("GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "GITHUB_ACTION", "RUNNER_NAME")
    values = [environ.get(name, "") for name in names]  # the step, and the runner of each job of a matrix
    whole = "\n".join(values).encode(errors="surrogatepass") + b"\n" + request
    readable = re.sub("[^A-Za-z0-9_-]", "_", "-".join(values[:3]))
    return f"github-{readable[:200]}-{hashlib.sha256(whole).hexdigest()[:16]}"
