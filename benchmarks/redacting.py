"""What it costs to take secrets out of logs and traversals."""

import random
import string
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.history import LARGE, TOML, traversal
from benchmarks.site import Site
from benchmarks.table import Figure, median, plain
from runner.ids import RunId, TaskId
from runner.project.run_files import RunFiles
from runner.project.traversal import parse_traversal
from runner.redaction import RedactedStream, Redactor, Secret

LOG_BYTES, PART_BYTES = 8_000_000, 64 * 1024
LETTERS = string.ascii_letters + string.digits
DICE = random.Random(1)


def redacting(site: Site) -> Iterator[Figure]:
    """Logs, a traversal and the making of automata. Each is the median of five."""
    few, many = (Redactor(Secret(f"S{n}", word(24)) for n in range(count)) for count in (20, 50))
    words = [word(DICE.randint(2, 9)) for _ in range(5000)]
    log = "\n".join(" ".join(DICE.choices(words, k=12)) for _ in range(LOG_BYTES // 80))
    yield plain("log, 20 secrets", len(log) / 1e6 / seconds(lambda: redact(few, log)), " MB/s", 50.0, at_least=True)
    content = traversal(RunId("r" * 24), LARGE, "SUCCESSFUL")
    with ThreadPoolExecutor(1) as pool:
        took = seconds(lambda: pool.submit(parse_traversal, content, many).result())
    yield plain("traversal of 5 MB, 50 secrets, in a thread", took * 1000, " ms", 150.0)
    keys = [Secret(f"KEY{n}", pem()) for n in range(10)]
    yield plain("automaton of 10 PEM keys", seconds(lambda: Redactor(keys)) * 1000, " ms", 50.0)
    dashes, redactor = 11 * ("-" * 80 + "\n"), Redactor(keys)
    yield plain("eleven lines of dashes, 10 PEM keys", seconds(lambda: redactor.text(dashes)) * 1000, " ms")
    with tempfile.TemporaryDirectory(prefix="runner-benchmark-") as folder:
        names = [TaskId(f"task_{number}") for number in range(500)]
        for number, name in enumerate(names):
            Path(folder, name).mkdir()
            Path(folder, name, f"task_{name}.toml").write_text(TOML.format(number=number))
        took = seconds(lambda: [*map(RunFiles(Path(folder), keys).redactor, names)])
    yield plain("automata of 500 tasks", took, " s", 1.0)


def seconds(work: Callable[[], object]) -> float:
    """The seconds that this takes."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return median(took)


def redact(redactor: Redactor, log: str) -> None:
    """Redact the log in the parts in which a pipe gives it."""
    stream = RedactedStream(redactor)
    for start in range(0, len(log), PART_BYTES):
        stream.feed(log[start : start + PART_BYTES])
    stream.close()


def word(length: int) -> str:
    """Letters and digits."""
    return "".join(DICE.choices(LETTERS, k=length))


def pem() -> str:
    """Something of the shape of a private key."""
    lines = "\n".join(word(64) for _ in range(26))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n"
