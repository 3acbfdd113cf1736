"""Which small changes of a file does no unit test notice? `make mutants FILE=jobs/queue/records.py`.

Code that ends processes does so here in changed forms: one of them ends every process that it sees. So all of it runs
where it sees none but its own; where the system cannot give that (it takes Linux and `unshare`), nothing is run.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

FOLDER = Path("mutants")
ALONE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
IS_ALONE = "import os, sys; sys.exit((os.getpid(), os.readlink('/proc/self')) != (1, '1'))"
INIT = ("sh", "-c", 'mutmut run "$@"; exit $?', "sh")  # the first process there has to wait for orphans
NOTICED = (1, 3)  # pytest's exit codes: a test failed, or pytest itself did
TOO_LONG = (24, 36, 152, 255, -24)  # mutmut's for tests that no longer ended


def exit_codes(file: str) -> Mapping[str, int | None]:
    """How the tests ended for each change of the file."""
    found: dict[str, int | None] = json.loads((FOLDER / f"{file}.meta").read_bytes())["exit_code_by_key"]
    return found


def summary(files: Iterable[str]) -> Sequence[str]:
    """Print how many changes of each file were noticed; returns the names of those that were not."""
    missed = []
    for file in files:
        codes = exit_codes(file)
        not_noticed = [name for name, code in codes.items() if code not in (*NOTICED, *TOO_LONG)]
        noticed = len(codes) - len(not_noticed)
        print(f"{file}: {noticed} noticed, {len(not_noticed)} not ({100 * noticed / max(1, len(codes)):.0f} %)")
        missed += not_noticed
    return missed


def can_be_alone() -> bool:
    """Whether a process can be started here that sees no process but its own."""
    try:
        return subprocess.run([*ALONE, sys.executable, "-c", IS_ALONE], check=False).returncode == 0
    except OSError:
        return False


def main(files: Sequence[str]) -> int:
    if not files or not all(Path(file).is_file() for file in files):
        print("Name files of this project: make mutants FILE=jobs/queue/records.py", file=sys.stderr)
        return 2
    if not can_be_alone():
        print("Changed code could end any process of yours, and this system cannot keep it apart.", file=sys.stderr)
        return 2
    names = [f"{file.removesuffix('.py').replace('/', '.')}.*" for file in files]
    subprocess.run([*ALONE, *INIT, *names], check=True)
    missed = summary(files)
    for name in missed:
        print(f"\n{name}", flush=True)
        subprocess.run(["mutmut", "show", name], check=True)
    if missed:
        print()
        summary(files)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
