"""One file a command; they and `cli.py` are the only places that print."""
