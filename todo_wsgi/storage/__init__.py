"""The storage tier, with the M of MVC: todos, and the SQL that reads and changes them.

`models.py`, `undo.py` and `transfer.py` have the SQL; `database.py` runs it, with the help of
`group_commit.py`, `cache.py` and `schema.py`. Or `rqlite.py` does, on several machines. Nothing
here knows of requests and responses.
"""
