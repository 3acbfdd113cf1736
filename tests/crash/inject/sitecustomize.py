"""Python imports a module of this name at every start: here it lets a process of a test's stack watch its own steps.

Not in the CLI, which inherits all this: no production code is changed, and none knows of it.
"""

import os

if "CRASH" in os.environ and "BUGNINJA_RUN_ID" not in os.environ:
    from tests.crash.watcher import install

    install(os.environ)
