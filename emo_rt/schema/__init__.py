"""Options that are written once, and what reads them: checks, messages, the command line, JSON and its schema."""
