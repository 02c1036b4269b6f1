"""The command line: one file per command. Each parses, calls one library function, prints."""
