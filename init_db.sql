-- The schema of the todo list. By hand it starts afresh, and drops what was there:
--
--     sqlite3 todos.db < init_db.sql
--
-- The server runs this file itself, and only where there is no table "todos".

DROP TABLE IF EXISTS todos;

-- Times are in UTC. A todo that is not completed, or not deleted, has NULL there.
CREATE TABLE todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP,
    deleted_at TIMESTAMP
);

-- The version of this schema: todo_wsgi/db.py upgrades older ones and refuses newer ones.
PRAGMA user_version = 1;
