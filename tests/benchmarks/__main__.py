"""Measures time and memory: ``python -m tests.benchmarks [SUBJECT ...] --data ESC10 --json OUT.json``.

Every figure is a ratio of two times taken in one run, or a size; seconds of one machine mean little on another.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from tests.benchmarks import measure

SUBJECTS = ("forward", "extraction", "kernel", "calibration", "many_classes", "start", "resume")


def main() -> None:
    """Measures the subjects asked for, and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS) + "; all if none is named")
    parser.add_argument(
        "--data", type=Path, help="ESC-10: audio/ and meta.csv; what needs recordings is left out without"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures and what is behind them")
    parser.add_argument("--work", type=Path, help="folder for caches of up to 10 GB; a temporary one if not given")
    options = parser.parse_args()
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    figures: list[measure.Figure] = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for subject in options.subjects or SUBJECTS:
            module = importlib.import_module(f"tests.benchmarks.{subject}")
            found = module.measure(measure.fresh(Path(folder) / subject), options.data and options.data.absolute())
            figures += found
            print(f"{subject}\n{measure.table(found)}\n", flush=True)
            for one in found:
                print("  ", one.what, dict(one.about), flush=True)
            if options.json:
                measure.save(figures, options.json)
    print(f"\n{measure.table(figures)}")


if __name__ == "__main__":
    main()
