"""The command line: one thin module a command. Only here are typer and rich known."""
