"""A stand-in for the CLI whose behaviour stands in the file `tasks/TASK/behaviour`. Run in the project's folder.

Words, performed one after the other: `visit`, `pass`, `fail`, `failed-status`, `empty-failed` (traversal writes),
`sleep:S`, `print:TEXT`, `flood:MB`, `exit:N`, `kill`, `half`, `list`, `deep`, `garbage`, `child` (a process in a session
of its own), `deaf` (ignores SIGTERM; `deaf:TEXT` prints this then), `environ` (prints it), `wait:FILE` (until the file exists), `other-id:ID` (from
here on another file is written), `name-file` (prints the file's name), `argv` (prints the words it was started with),
`keep-id` (says that it has our ID, as the shim does), `touch-stop` (requests its own stop), `panel:TITLE` (prints a panel), `note:WORD` (adds the run's ID and the word to the file `notes`), `think:TEXT` (a step with this text),
`see:FILE` (a step with this picture, which must be in the folder `screenshots` of the task),
`orphan` (a process that ignores SIGTERM, with no parent, no environment and a session of its own: its PID is in the file
`orphan.pid`), `orphans:N` (so many that end at once), `forks:N` (so many generations of them, whose PIDs are in the file
`forks.pids`; the last one stays), `eat:MB` (memory).

With the word `replay` among its arguments it does what `behaviour-replay` says, and writes a REPLAY.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EATEN: list[bytes] = []
ORPHAN = "trap '' TERM; echo $$ > orphan.pid; while :; do sleep 0.1; done"
FORKS = """
trap '' TERM
echo $$ >> forks.pids
[ $1 = 0 ] && exec sleep 60
sleep 0.05
setsid env -i sh -c "$2" sh $(($1 - 1)) "$2" &
"""


def orphan(folder: Path, *command: str) -> None:
    """Start a process of which no trace leads back to this one, and wait for the one between."""
    words = shlex.join(["setsid", "env", "-i", *command])
    subprocess.run(["sh", "-c", f"{words} &"], cwd=folder, check=True, stderr=subprocess.DEVNULL)


class Writer:
    """Writes the run's traversal by rename after each action."""

    def __init__(self, task: Path) -> None:
        self.folder = task / "traversals"
        self.name(os.environ["BUGNINJA_RUN_ID"])
        self.thoughts: dict[str, Any] = {}
        self.actions: dict[str, Any] = {}

    def name(self, run_id: str) -> None:
        self.path = self.folder / f"traverse_{time.strftime('%Y%m%d_%H%M%S')}_{run_id}.json"

    def act(self, kind: str, parameters: dict[str, Any], status: str, **more: Any) -> None:
        number = len(self.actions)
        self.thoughts[f"t{number}"] = {"evaluation_previous_goal": "", "memory": "", "next_goal": f"goal {number}"}
        self.actions[f"action_{number}"] = {
            "brain_state_id": f"t{number}",
            "action": {kind: parameters, "wait": None},
            **more,
        }
        self.write(status)

    def write(self, status: str) -> None:
        document = {"brain_states": self.thoughts, "actions": self.actions, "status": status, "secrets": {"A": "b"}}
        if "replay" in sys.argv:
            document |= {"run_type": "REPLAY", "brain_states": {}}
        self.put(json.dumps(document))

    def put(self, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text)
        temporary.replace(self.path)


def perform(writer: Writer, word: str, value: str) -> None:
    """One word of the behaviour."""
    if word == "visit":
        writer.act("go_to_url", {"url": "http://127.0.0.1:1/"}, "PENDING")
    elif word == "pass":
        writer.act("done", {"text": "All is well", "success": True}, "SUCCESSFUL")
    elif word == "fail":
        writer.act("done", {"text": "The cart is empty", "success": False}, "FAILED")
    elif word == "failed-status":
        writer.write("FAILED")
    elif word == "sleep":
        time.sleep(float(value))
    elif word == "print":
        print(value, flush=True)
    elif word == "flood":
        for _ in range(int(value)):
            os.write(1, b"x" * 1_000_000)
    elif word == "exit":
        sys.exit(int(value))
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "half":
        writer.put('{"brain_states": {}, "actions": {"action_0": {')
    elif word == "list":
        writer.put("[1, 2, 3]")
    elif word == "deep":
        writer.put("[" * 200_000 + "]" * 200_000)
    elif word == "child":
        command = "trap '' TERM; echo $$ > child.pid; while :; do sleep 0.1; done"
        # a shell says "Killed" when its `sleep` is killed a moment before itself
        quiet = subprocess.DEVNULL
        subprocess.Popen(["sh", "-c", command], start_new_session=True, cwd=writer.folder.parent, stderr=quiet)
        while not (writer.folder.parent / "child.pid").exists():
            time.sleep(0.01)
    elif word == "orphan":
        orphan(writer.folder.parent, "sh", "-c", ORPHAN)
    elif word == "orphans":
        for _ in range(int(value)):
            orphan(writer.folder.parent, "true")
    elif word == "forks":
        orphan(writer.folder.parent, "sh", "-c", FORKS, "sh", value, FORKS)
    elif word == "eat":
        EATEN.append(os.urandom(1_000_000) * int(value))
    elif word == "deaf":
        signal.signal(signal.SIGTERM, (lambda *_: print(value, flush=True)) if value else signal.SIG_IGN)
    elif word == "environ":
        print(json.dumps(dict(os.environ)), flush=True)
    elif word == "wait":
        while not (writer.folder.parent / value).exists():
            time.sleep(0.01)
    elif word == "other-id":
        writer.name(value)
    elif word == "name-file":
        print(f"saved to {writer.path.name}", flush=True)
    elif word == "argv":
        print(json.dumps(sys.argv[1:]), flush=True)
    elif word == "panel":
        print(f"╭── {value} ──╮\n│ 🚨 Error: │\n│ it broke here │\n╰────╯", flush=True)
    elif word == "note":
        with (writer.folder.parent / "notes").open("a") as notes:
            notes.write(f"{writer.path.stem.rpartition('_')[2]} {value}\n")
    elif word == "keep-id":
        Path(os.environ["BUGNINJA_RUN_FOLDER"], "kept-id").touch()
    elif word == "touch-stop":
        Path(os.environ["BUGNINJA_RUN_FOLDER"], "stop").touch()
    elif word == "think":
        writer.act("extract_content", {"goal": value}, "PENDING")
    elif word == "see":
        writer.act("scroll_down", {}, "PENDING", screenshot_filename=f"screenshots/{value}")
    else:
        sys.exit(f"unknown word {word!r}")


def main() -> None:
    task = Path("tasks", sys.argv[1])
    writer = Writer(task)
    behaviour = "behaviour-replay" if "replay" in sys.argv else "behaviour"
    for step in (task / behaviour).read_text().split():
        word, _, value = step.partition(":")
        perform(writer, word, value.replace("_", " "))


if __name__ == "__main__":
    main()
