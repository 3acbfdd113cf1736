"""The CLI: an action at once, some work, the end. Notes in `reports/RUN_ID` when it acted, and how long it took."""

import json
import os
import sys
import time
from pathlib import Path

from benchmarks.slow import heavy

WORK_SECONDS = 0.3
ACTION = {"brain_state_id": "a", "action": {"done": {"text": "Done", "success": True}}}
THOUGHT = {"evaluation_previous_goal": "", "memory": "", "next_goal": "Be quick"}


def write(status: str) -> None:
    """Write the traversal, in one step."""
    folder, run_id = Path("tasks", sys.argv[1], "traversals"), os.environ["BUGNINJA_RUN_ID"]
    folder.mkdir(exist_ok=True)
    document = {"brain_states": {"a": THOUGHT}, "actions": {"action_0": ACTION}, "status": status}
    temporary = folder / f".{run_id}"
    temporary.write_text(json.dumps(document))
    temporary.replace(folder / f"traverse_20260101_000000_{run_id}.json")


def main() -> None:
    """One run, once everything is imported."""
    began = time.time()
    assert heavy.KEPT
    write("PENDING")
    acted = time.time()
    time.sleep(WORK_SECONDS)
    write("SUCCESSFUL")
    report = {"began": began, "acted": acted, "ended": time.time()}
    Path("reports", os.environ["BUGNINJA_RUN_ID"]).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
