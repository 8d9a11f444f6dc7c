-- Temporary tables of the writer's session, emptied at each commit, or, behind a pooler, of the transaction alone: what
-- came, what of it was new, and the customers to score anew, with what stands now (null where the customer has none now)
-- and what stood before the batch (null where the customer had none): a row each that the batch wrote or deleted, and
-- further rows of those that a cut `passed`, who may be there twice.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_invoice (
    invoice         text COLLATE "C" NOT NULL,
    invoice_date    timestamp NOT NULL,
    customer_id     text COLLATE "C",
    line_count      integer NOT NULL,
    counting_lines  integer NOT NULL,
    purchased       numeric(38, 2) NOT NULL,
    returned        numeric(38, 2) NOT NULL,
    content_sha256  bytea NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    kafka_timestamp timestamptz NOT NULL
) ON COMMIT {on_commit};

CREATE TEMPORARY TABLE IF NOT EXISTS fresh_invoice (
    invoice        text COLLATE "C" NOT NULL,
    invoice_date   timestamp NOT NULL,
    customer_id    text COLLATE "C",
    counting_lines integer NOT NULL,
    purchased      numeric(38, 2) NOT NULL,
    returned       numeric(38, 2) NOT NULL
) ON COMMIT {on_commit};

CREATE TEMPORARY TABLE IF NOT EXISTS due_customer (
    customer_id       text COLLATE "C" NOT NULL,
    row_id            tid,
    last_purchase     date,
    frequency         bigint,
    monetary          numeric(38, 2),
    old_last_purchase date,
    old_frequency     bigint,
    old_monetary      numeric(38, 2),
    old_r             smallint,
    old_f             smallint,
    old_m             smallint,
    old_segment       text,
    passed            boolean NOT NULL DEFAULT false
) ON COMMIT {on_commit};
