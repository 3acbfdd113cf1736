"""Measure everything, and print the table. With `--check`, exit with 1 if a figure misses its target."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import histories, pages, reading, redacting, running, warming
from benchmarks.site import Site
from benchmarks.table import Figure, table

Section = Callable[[Site], Iterator[Figure]]
SECTIONS: tuple[Section, ...] = (
    reading.start_up,
    reading.histories,
    reading.one_client,
    reading.just_changed,
    reading.per_second,
    reading.beside_others,
    histories.on_disk,
    histories.of_rows,
    running.posts,
    running.starting,
    running.whole_run,
    running.live,
    pages.pages,
    pages.browser,
    warming.warming,
    redacting.redacting,
)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure misses its target")
    parser.add_argument("sections", nargs="*", help="which parts to measure: " + ", ".join(map(name_of, SECTIONS)))
    options = parser.parse_args()
    chosen = [section for section in SECTIONS if not options.sections or name_of(section) in options.sections]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="runner-benchmark-") as folder:
        site = Site(Path(folder))
        try:
            for section in dict.fromkeys([reading.start_up, *chosen]):
                print(f"... {name_of(section)}", file=sys.stderr, flush=True)
                figures += section(site)
        finally:
            site.close()
    print(f"{os.cpu_count()} cores; 'hello' is a bare Starlette, measured in turns with the rest\n")
    print(table(figures))
    missed = [figure.name for figure in figures if not figure.is_met]
    print(
        f"\n{len(missed)} of {sum(figure.target is not None for figure in figures)} targets missed", *missed, sep="\n  "
    )
    return 1 if options.check and missed else 0


def name_of(section: Section) -> str:
    """Its name on the command line."""
    return section.__name__


if __name__ == "__main__":
    sys.exit(main())
