-- The schema of the todo list. By hand it starts afresh, and drops what was there:
--
--     sqlite3 todos.db < init_db.sql
--
-- The server runs this file itself where there is no table "todos". Where there is an older one, it
-- runs only what makes the indexes.

DROP TABLE IF EXISTS todos;

-- Times are in UTC. A todo that is not completed, or not deleted, has NULL there.
--
-- The list is sorted by place, the highest on top. A todo's place is its id, so that a new one is on
-- top, until it is moved: then two todos swap their places, and each has its new one in moved_to.
CREATE TABLE todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP,
    deleted_at TIMESTAMP,
    moved_to INTEGER,
    place INTEGER AS (coalesce(moved_to, id))
);

-- One index for each filter: a page of 100 todos is then found at once, however long the list.
CREATE INDEX IF NOT EXISTS todos_all ON todos (place)
    WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS todos_active ON todos (place)
    WHERE deleted_at IS NULL AND completed_at IS NULL;
CREATE INDEX IF NOT EXISTS todos_completed ON todos (place)
    WHERE deleted_at IS NULL AND completed_at IS NOT NULL;

-- And one for each change that can be undone: it is found by its time.
CREATE INDEX IF NOT EXISTS todos_by_completion ON todos (completed_at)
    WHERE deleted_at IS NULL AND completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS todos_by_deletion ON todos (deleted_at)
    WHERE deleted_at IS NOT NULL;

-- The version of this schema: todo_wsgi/db.py upgrades older ones and refuses newer ones.
PRAGMA user_version = 2;
