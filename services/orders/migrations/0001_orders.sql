-- One text for SQLite and PostgreSQL. Migrations only add: during a rollout the previous release works on the same tables.
-- Times are microseconds since 1970, money is in minor units.
CREATE TABLE orders (
    id         TEXT   NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version    BIGINT NOT NULL,
    status     TEXT   NOT NULL,
    customer   TEXT   NOT NULL,
    currency   TEXT   NOT NULL,
    total      BIGINT NOT NULL,
    items      TEXT   NOT NULL,
    note       TEXT   NOT NULL DEFAULT ''
);

CREATE INDEX orders_by_time ON orders (created_at DESC, id DESC);
CREATE INDEX orders_by_status ON orders (status, created_at DESC, id DESC);
