"""``gramcli`` and ``python -m gramcli``."""

from __future__ import annotations

from gramcli.cli import signals, streams


def main() -> None:
    """Runs the command line and ends the process."""
    signals.end_at_once()
    streams.open_missing()  # before any file is opened
    from gramcli.cli.app import main as run  # takes longer than a hasty Ctrl-C

    run()


if __name__ == "__main__":
    main()
