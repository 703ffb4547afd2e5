-- The schema of the todo list. By hand, this file starts afresh, with two examples; all todos that
-- were there are gone:
--
--     sqlite3 todos.db < init_db.sql
--
-- The server runs only the part between the two marked lines, which creates what is missing. It
-- never drops a todo, and its new list is empty.

DROP TABLE IF EXISTS todos;
DROP TABLE IF EXISTS todo_count; -- from version 3

-- The server's part: begin

-- Times are in UTC. A todo that is not completed, or not deleted, has NULL there.
--
-- The list is sorted by place, the highest on top. A todo's place is its id, so that a new one is on
-- top, until it is moved: then two todos swap their places, and each has its new one in moved_to.
CREATE TABLE IF NOT EXISTS todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP,
    deleted_at TIMESTAMP,
    moved_to INTEGER,
    place INTEGER AS (coalesce(moved_to, id))
);

-- One index for each filter: SQLite finds a page of 100 todos at once, however long the list is.
CREATE INDEX IF NOT EXISTS todos_all ON todos (place)
    WHERE deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS todos_active ON todos (place)
    WHERE deleted_at IS NULL AND completed_at IS NULL;
CREATE INDEX IF NOT EXISTS todos_completed ON todos (place)
    WHERE deleted_at IS NULL AND completed_at IS NOT NULL;

-- And one for each kind of change that can be undone: its time is its name.
CREATE INDEX IF NOT EXISTS todos_by_completion ON todos (completed_at)
    WHERE deleted_at IS NULL AND completed_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS todos_by_deletion ON todos (deleted_at)
    WHERE deleted_at IS NOT NULL;

-- The way back from each newer version. An upgrade adds, it never renames or drops: so no value is
-- lost. The next version adds: INSERT OR REPLACE INTO todo_way_back VALUES (5, 'DROP INDEX ...');
CREATE TABLE IF NOT EXISTS todo_way_back (version INTEGER PRIMARY KEY, script TEXT NOT NULL);

PRAGMA user_version = 4; -- todo_wsgi/storage/schema.py upgrades older ones, goes back from newer ones

-- The server's part: end

INSERT INTO todos (text) VALUES ('laundry'), ('walk the dog');
