-- The schema of the todo list. By hand it starts afresh, and drops what was there:
--
--     sqlite3 todos.db < init_db.sql
--
-- The server runs this file itself, but never drops anything. Where there is an older table "todos",
-- it adds the columns that are missing, and the rest of this file.

DROP TABLE IF EXISTS todos;
DROP TABLE IF EXISTS todo_count;

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

-- How many todos are active. To count them takes the longer, the longer the list; so the database
-- keeps the number itself, and a row put in by hand is counted, too.
CREATE TABLE IF NOT EXISTS todo_count (
    id INTEGER PRIMARY KEY,
    active INTEGER NOT NULL,
    replaced INTEGER
);
INSERT OR REPLACE INTO todo_count (id, active, replaced)
    SELECT 1, count(*), NULL FROM todos WHERE deleted_at IS NULL AND completed_at IS NULL;

-- With OR REPLACE, a row removes another one that has its id, without telling todo_deleted. So such
-- an id, if that row is active, is noted before, and taken off after.
CREATE TRIGGER IF NOT EXISTS todo_inserting BEFORE INSERT ON todos
BEGIN
    UPDATE todo_count
    SET replaced = (
        SELECT id FROM todos WHERE id = new.id AND deleted_at IS NULL AND completed_at IS NULL
    )
    WHERE id = 1;
END;
CREATE TRIGGER IF NOT EXISTS todo_renumbering BEFORE UPDATE OF id ON todos
BEGIN
    UPDATE todo_count
    SET replaced = (
        SELECT id FROM todos WHERE id = new.id AND deleted_at IS NULL AND completed_at IS NULL
    )
    WHERE id = 1;
END;
CREATE TRIGGER IF NOT EXISTS todo_inserted AFTER INSERT ON todos
BEGIN
    UPDATE todo_count
    SET active = active + (new.deleted_at IS NULL AND new.completed_at IS NULL)
        - (replaced IS new.id)
    WHERE id = 1;
END;
CREATE TRIGGER IF NOT EXISTS todo_updated AFTER UPDATE OF id, completed_at, deleted_at ON todos
BEGIN
    UPDATE todo_count
    SET active = active + (new.deleted_at IS NULL AND new.completed_at IS NULL)
        - (old.deleted_at IS NULL AND old.completed_at IS NULL)
        - (new.id <> old.id AND replaced IS new.id)
    WHERE id = 1;
END;
CREATE TRIGGER IF NOT EXISTS todo_deleted AFTER DELETE ON todos
BEGIN
    UPDATE todo_count
    SET active = active - (old.deleted_at IS NULL AND old.completed_at IS NULL),
        replaced = nullif(replaced, old.id)
    WHERE id = 1;
END;

-- The version of this schema: todo_wsgi/storage/schema.py upgrades older ones and refuses newer ones.
PRAGMA user_version = 3;
