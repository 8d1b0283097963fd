-- The answer that was given under an idempotency key, written together with what it acknowledges.
CREATE TABLE idempotency (
    scope       TEXT   NOT NULL,
    token       TEXT   NOT NULL,
    fingerprint TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    version     BIGINT NOT NULL,
    body        TEXT   NOT NULL,
    PRIMARY KEY (scope, token)
);

CREATE INDEX idempotency_by_time ON idempotency (created_at);
