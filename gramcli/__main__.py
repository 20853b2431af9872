"""``gramcli`` and ``python -m gramcli``."""

from gramcli.system import import_path


def main() -> None:
    """Runs the command line and ends the process."""
    import_path.leave_out_working_folder()  # before anything is imported that a file there could replace
    from gramcli.cli import signals

    signals.end_at_once()
    from gramcli.cli.app import main as run  # takes longer than a hasty Ctrl-C

    run()


if __name__ == "__main__":
    main()
