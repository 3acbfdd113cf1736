-- All runs as the disk knows them, made to be asked. Nothing is only here: this file may be deleted at any time.
-- Times are microseconds since 1970.

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT;

CREATE TABLE cases (                        -- test cases and browsers as runs show them, each once
    id INTEGER PRIMARY KEY,
    test_case TEXT NOT NULL,
    browser_config TEXT NOT NULL,
    search TEXT NOT NULL,                   -- the text in which a search looks
    UNIQUE (test_case, browser_config)
) STRICT;

CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    case_id INTEGER NOT NULL DEFAULT 0,     -- the task as its file is now
    file TEXT,                              -- the identity of that file
    listed TEXT                             -- the times of its folders when all that is in them had been read
) STRICT;

CREATE TABLE groups (                       -- runs that are alike, and how many there are
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL,
    case_id INTEGER NOT NULL,               -- 0: the task as it is now
    state TEXT NOT NULL,
    reason TEXT NOT NULL,                   -- '' without one
    run_type TEXT NOT NULL,
    origin TEXT NOT NULL,
    trigger TEXT NOT NULL,
    n INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,       -- how many there ever were that will not change; never falls
    UNIQUE (task, case_id, state, reason, run_type, origin, trigger)
) STRICT;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    task INTEGER NOT NULL,
    group_id INTEGER,                       -- NULL: a file that a running run may be about to adopt; not listed
    recorded INTEGER NOT NULL,              -- whether there is a record of it on the disk
    queued_at INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER,
    passed_steps INTEGER NOT NULL,
    failed_steps INTEGER NOT NULL,
    traversal_id TEXT,                      -- of a file that it has adopted
    file TEXT,                              -- the name of its traversal file, where that is known
    batch_id TEXT,
    labels TEXT,
    wait REAL,                              -- seconds from its acceptance until a worker took it,
    first_step REAL,                        -- from then to its first step
    warm INTEGER,
    fingerprint TEXT,                       -- of its failure
    failure TEXT,                           -- what is shown of it
    seen TEXT,                              -- the files that it was read from; NULL: it will not change any more
    counted INTEGER NOT NULL,               -- whether it is in what never falls: once, also if its file changes again
    UNIQUE (run_id, task)
) STRICT;

CREATE INDEX runs_by_time ON runs (queued_at, group_id) WHERE group_id IS NOT NULL;
CREATE INDEX runs_by_group ON runs (group_id, queued_at);
CREATE INDEX runs_by_batch ON runs (batch_id, queued_at) WHERE batch_id IS NOT NULL;
CREATE INDEX runs_open ON runs (task) WHERE seen IS NOT NULL;
CREATE INDEX runs_unlisted ON runs (task) WHERE group_id IS NULL;
CREATE INDEX runs_adopting ON runs (traversal_id, task) WHERE traversal_id IS NOT NULL;
CREATE INDEX runs_failed ON runs (finished_at, fingerprint) WHERE fingerprint IS NOT NULL;

CREATE TABLE labels (
    key TEXT, value TEXT, queued_at INTEGER, run INTEGER, PRIMARY KEY (key, value, queued_at, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE durations (                    -- histograms of runs that will not change; they never fall
    name TEXT, warm INTEGER, bucket REAL, n INTEGER NOT NULL, total REAL NOT NULL, PRIMARY KEY (name, warm, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE statistics (                   -- of tasks, over so many verdicts, as long as no run of the task changes
    task INTEGER, last INTEGER, value TEXT NOT NULL, PRIMARY KEY (task, last)
) STRICT, WITHOUT ROWID;

INSERT INTO meta VALUES ('indexing', '{"done":0,"total":0}');

CREATE TRIGGER run_added AFTER INSERT ON runs BEGIN
    DELETE FROM statistics WHERE task = NEW.task;
    UPDATE groups SET n = n + 1 WHERE id = NEW.group_id;
    INSERT INTO labels SELECT key, value, NEW.queued_at, NEW.id FROM json_each(NEW.labels);
END;

CREATE TRIGGER run_moved AFTER UPDATE OF group_id ON runs BEGIN
    UPDATE groups SET n = n - 1 WHERE id = OLD.group_id;
    UPDATE groups SET n = n + 1 WHERE id = NEW.group_id;
END;

CREATE TRIGGER run_changed AFTER UPDATE ON runs BEGIN
    DELETE FROM statistics WHERE task = NEW.task;
END;

CREATE TRIGGER run_gone AFTER DELETE ON runs BEGIN
    DELETE FROM statistics WHERE task = OLD.task;
    UPDATE groups SET n = n - 1 WHERE id = OLD.group_id;
    DELETE FROM labels WHERE (key, value, queued_at, run) IN
        (SELECT key, value, OLD.queued_at, OLD.id FROM json_each(OLD.labels));
END;
