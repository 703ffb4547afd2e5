"""The storage tier: todos in a SQLite database, and the SQL for them. Knows no HTTP."""
