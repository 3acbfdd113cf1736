"""Imports that take two seconds of CPU, and leave many objects behind."""

import hashlib
import time

CPU_SECONDS = 2.0
OBJECTS = 200_000

_began = time.process_time()
KEPT = [{"number": number, "name": f"object {number}"} for number in range(OBJECTS)]
while time.process_time() < _began + CPU_SECONDS:
    hashlib.sha256(b"x" * 100_000)
