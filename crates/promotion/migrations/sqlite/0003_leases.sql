-- Leases of servers: which of them have shown that they are running, as a license manager counts them.

CREATE TABLE promotion_leases (
    server_id BIGINT NOT NULL REFERENCES promotion_servers (id) ON DELETE CASCADE,
    -- From 1 for each server; the one with the largest number is the current one.
    number BIGINT NOT NULL,
    -- `active`, `grace` (the renewal is overdue) or `inactive` (ended)
    state TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    ended_at BIGINT,
    -- `grace_period_exceeded` or `secure_shutdown`
    end_reason TEXT,
    PRIMARY KEY (server_id, number)
);
CREATE UNIQUE INDEX promotion_leases_open ON promotion_leases (server_id) WHERE ended_at IS NULL;
CREATE INDEX promotion_leases_ended ON promotion_leases (ended_at);
