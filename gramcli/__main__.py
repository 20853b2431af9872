"""``gramcli`` and ``python -m gramcli``."""

from __future__ import annotations

import sys

from gramcli.cli import signals, streams
from gramcli.system.machine_faults import machine_fault


def main() -> None:
    """Runs the command line and ends the process."""
    signals.end_at_once()
    streams.open_missing()  # before any file is opened
    try:
        from gramcli.cli.app import main as run  # takes longer than a hasty Ctrl-C
    except Exception as error:
        if (fault := machine_fault(error)) is None:
            raise
        streams.write_error(f"error: {fault}\n")
        sys.exit(fault.exit_code)
    run()


if __name__ == "__main__":
    main()
