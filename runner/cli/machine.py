"""Which machine this is: where process IDs mean the same. Containers on one host are different machines.

And who listens on a port of it.
"""

import socket
from functools import lru_cache
from pathlib import Path

import psutil

from runner.errors import printable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PID_NAMESPACE = Path("/proc/self/ns/pid")


@lru_cache(maxsize=1)
def machine_id() -> str:
    """Host name, boot, and (on Linux) PID namespace: after a restart it is another machine, since all processes of the
    former one are gone."""
    try:
        boot, namespace = BOOT_ID.read_text().strip(), str(PID_NAMESPACE.readlink())
    except OSError:
        boot, namespace = f"{psutil.boot_time():.0f}", ""
    return f"{socket.gethostname()}:{boot}:{namespace.strip('pid:[]')}"


def listener_on(port: int) -> str | None:
    """The process that listens on this port of TCP, as `process 1234 (python app.py)`; None if that cannot be known."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr[1] == port
                and connection.pid
            ):
                return f"process {connection.pid} ({_command(psutil.Process(connection.pid).cmdline())})"
    except (psutil.Error, OSError):  # macOS tells only root
        pass
    return None


def _command(words: list[str]) -> str:
    """The program and its script; what follows may be a secret of somebody else."""
    script = [word for word in words[1:2] if not word.startswith("-") and "=" not in word and "@" not in word]
    return printable(" ".join([*words[:1], *script]))
