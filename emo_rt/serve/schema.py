"""Tables of the store."""

VERSION = 1
"""Format of the database; a newer one is refused."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    prompt TEXT,
    options TEXT NOT NULL,
    sample_rate INTEGER NOT NULL,
    avatar TEXT,
    size TEXT,
    seconds TEXT NOT NULL,
    is_sync INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    completed_at INTEGER,
    expires_at INTEGER,
    bytes INTEGER NOT NULL,
    error_code TEXT,
    error_message TEXT,
    stats TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, seq);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, seq);
CREATE TABLE IF NOT EXISTS avatars (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    name TEXT,
    options TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    face_box TEXT,
    warning TEXT,
    bytes INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS avatars_by_owner ON avatars (owner, seq);
"""
