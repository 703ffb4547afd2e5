"""The server: waitress and what belongs to it. Knows no pages and no SQL."""
