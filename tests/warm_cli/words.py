"""What a run can do: each function takes the value of its word."""

import asyncio
import json
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from pathlib import Path
from typing import Any

from tests.warm_cli.facts import OWN, all_facts

SHOWN = "import os, sys; print('child', sys.flags.utf8_mode, sorted(set(os.environ) & {*sys.argv[1:]}))"
KEPT: dict[str, int] = {}  # what one run leaves in the memory, and another one must not find


def _say(*values: object) -> None:
    print(*values, flush=True)


def _show_environ() -> None:
    """What others see of this process, and of no other."""
    content = Path(f"/proc/{os.getpid()}/environ").read_bytes().decode().split("\0")
    _say(sorted(line for line in content if line.partition("=")[0] in OWN))


def facts(_: str) -> None:
    """All that the process can know of itself."""
    _say(json.dumps(all_facts(), indent=1))


def argv(_: str) -> None:
    _say(sys.argv, sys.orig_argv)


def wait(value: str) -> None:
    """Until a file of this name is in the task's folder."""
    while not Path("tasks", sys.argv[1], value).exists():
        time.sleep(0.01)


def note(value: str) -> None:
    """Into the task's file `notes`: who did it, and this word."""
    with Path("tasks", sys.argv[1], "notes").open("a") as notes:
        notes.write(f"{os.environ['BUGNINJA_RUN_ID']} {os.getpid()} {value}\n")


def panel(value: str) -> None:
    """As Rich prints it, with colours, a link and the title of a terminal."""
    _say(f"\x1b]0;bugninja\x07\x1b[31m╭── {value} ──╮\x1b[0m\n│ \x1b]8;;http://a/\x07🚨 Error:\x1b]8;;\x07 │\n╰────╯")


def traversal(value: str) -> None:
    """`pass`, `fail`, or `pending`: by rename."""
    folder = Path("tasks", sys.argv[1], "traversals")
    folder.mkdir(exist_ok=True)
    parameters = {"text": "All is well", "success": value == "pass"}
    actions = {"action_0": {"brain_state_id": "t0", "action": {"done": None if value == "pending" else parameters}}}
    thoughts = {"t0": {"evaluation_previous_goal": "", "memory": "", "next_goal": "goal"}}
    status = {"pass": "SUCCESSFUL", "fail": "FAILED", "pending": "PENDING"}[value]
    document = {"test_case": sys.argv[1], "brain_states": thoughts, "actions": actions, "status": status}
    path = folder / f"traverse_{time.strftime('%Y%m%d_%H%M%S')}_{os.environ['BUGNINJA_RUN_ID']}.json"
    path.with_suffix(".tmp").write_text(json.dumps(document))
    path.with_suffix(".tmp").replace(path)


def deaf(_: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def threads(_: str) -> None:
    """Some, which do something and end."""
    started = [threading.Thread(target=_say, args=(f"thread {number}",)) for number in range(3)]
    for thread in started:
        thread.start()
        thread.join()
    _say(threading.active_count(), threading.current_thread() is threading.main_thread())


def fork(_: str) -> None:
    """A child that goes its own way; others must see in its environment what run it belongs to."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _show_environ()
        os._exit(7)
    _say("forked", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def leave_child(value: str) -> None:
    """A child in a session of its own, whose PID is in the task's file of this name."""
    child = subprocess.Popen(["sleep", "60"], start_new_session=True, stdin=subprocess.DEVNULL)
    Path("tasks", sys.argv[1], value).write_text(str(child.pid))


def environ(_: str) -> None:
    _show_environ()


def child(_: str) -> None:
    """Another Python, with pipes."""
    words = [sys.executable, "-c", SHOWN, *OWN]
    done = subprocess.run(words, capture_output=True, text=True, input="hello", check=False)
    _say(done.returncode, done.stdout, done.stderr)


def _square(number: int) -> None:
    _say(number**2, os.environ["BUGNINJA_RUN_ID"] in os.environ["BUGNINJA_RUN_FOLDER"], __name__)


def processes(value: str) -> None:
    """`processes:fork`, `processes:spawn`"""
    process = multiprocessing.get_context(value).Process(target=_square, args=(3,))  # type: ignore[attr-defined]
    process.start()
    process.join()
    _say(process.exitcode, multiprocessing.parent_process())


def _sink(depth: int) -> int:
    try:
        return _sink(depth + 1)
    except RecursionError:
        return depth


def stack(_: str) -> None:
    """The functions that have called this one, and how many more there may be."""
    _say([frame.name for frame in traceback.extract_stack()], _sink(0))


def _thread_kind() -> str:
    return threading.current_thread().name.partition("_")[0]


async def _talk() -> Any:
    pipe = asyncio.subprocess.PIPE
    cat = await asyncio.create_subprocess_exec("sh", "-c", "cat; exit 5", stdin=pipe, stdout=pipe)
    output, _ = await cat.communicate(b"through a cat")
    loop = asyncio.get_running_loop()
    return output, cat.returncode, await loop.run_in_executor(None, _thread_kind)


def loop(_: str) -> None:
    """asyncio with a process and a thread."""
    _say(asyncio.run(_talk()))


def dice(_: str) -> None:
    """What must be another thing each time."""
    made = tempfile.mkdtemp()
    Path(made).rmdir()
    _say(json.dumps([random.random(), uuid.uuid4().hex, uuid.uuid1().hex, os.urandom(8).hex(), made]))


def logs(_: str) -> None:
    """Warnings and a logged exception, on stderr."""
    logging.basicConfig(format="%(levelname)s %(name)s %(funcName)s %(processName)s %(threadName)s %(message)s")
    logging.getLogger("shop").error("it \x1b[1mbroke\x1b[0m")
    warnings.warn("old \x1b[1mthing\x1b[0m", UserWarning, stacklevel=2)
    try:
        raises_at_once()
    except ValueError:
        logging.exception("handled")
        traceback.print_exc()


def raises_at_once() -> None:
    raise ValueError("one line")


def leave_traces(value: str) -> None:
    """In the memory, the environment, the descriptors and the settings of the process; and show those of others."""
    _say(sorted(KEPT), os.environ.get("TRACE"), sorted(os.listdir("/proc/self/fd")), os.umask(0o022), sys.path[-1])
    _say(threading.active_count(), signal.getsignal(signal.SIGUSR2), str(Path.cwd()) == os.environ["PWD_OF_TEST"])
    KEPT[value] = os.open("/dev/zero", os.O_RDONLY)
    os.environ["TRACE"] = value
    os.umask(0o077)
    sys.path.append(value)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    os.chdir("/")
