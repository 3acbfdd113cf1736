"""Which machine this is: where process IDs mean the same. Containers on one host are different machines."""

import socket
from functools import lru_cache
from pathlib import Path

import psutil

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
