"""``gramcli`` and ``python -m gramcli``."""

from gramcli.system import import_path


def main() -> None:
    """Runs the command line and ends the process."""
    import_path.leave_out_working_folder()  # before anything is imported that a file there could replace
    from gramcli.cli import signals

    signals.end_at_once()
    # what is imported from here on takes longer than a hasty Ctrl-C
    import sys

    from gramcli.cli import streams
    from gramcli.system.machine_faults import machine_fault

    streams.open_missing()  # before any file is opened
    try:
        from gramcli.cli.app import main as run
    except Exception as error:
        if (fault := machine_fault(error)) is None:
            raise
        streams.write_error(f"error: {fault}\n")
        sys.exit(fault.exit_code)
    run()


if __name__ == "__main__":
    main()
