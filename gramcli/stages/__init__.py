"""One module a command; nothing here prints or exits."""
