"""The command line, one thin module a command; typer and rich are imported only here."""
