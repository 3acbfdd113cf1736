"""Imports that can be heard: they print, register what is done at the end, and take the time and memory of
WARM_CLI_IMPORT_SECONDS and WARM_CLI_IMPORT_MB. WARM_CLI_READS names a variable that they read."""

import atexit
import os
import sys
import time

time.sleep(float(os.environ.get("WARM_CLI_IMPORT_SECONDS", "0")))
BALLAST = os.urandom(1_000_000) * int(os.environ.get("WARM_CLI_IMPORT_MB", "0"))
READ = os.environ.get(os.environ.get("WARM_CLI_READS", "HOME"))

print("\x1b[32mINFO\x1b[0m     [telemetry] is on")
print("\x1b[1;31mwarning:\x1b[0m deprecated — ünïcode", file=sys.stderr)
sys.stdout.write("no end of line")
atexit.register(print, "\x1b[33mfarewell\x1b[0m of an import")
