"""The command line, one thin module per command; typer and rich are imported only here."""
