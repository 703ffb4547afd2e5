-- Begin anew: this deletes the todos that are there.
DROP TABLE IF EXISTS todos;

CREATE TABLE todos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    text TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    completed_at TIMESTAMP -- NULL: still to do
);

INSERT INTO todos (text) VALUES ('laundry'), ('walk the dog');
