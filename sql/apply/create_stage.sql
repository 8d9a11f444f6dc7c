-- Two temporary tables of the writer's session, emptied at each commit: what came, and what of it was new.
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
) ON COMMIT DELETE ROWS;

CREATE TEMPORARY TABLE IF NOT EXISTS fresh_invoice (
    invoice        text COLLATE "C" NOT NULL,
    invoice_date   timestamp NOT NULL,
    customer_id    text COLLATE "C",
    counting_lines integer NOT NULL,
    purchased      numeric(38, 2) NOT NULL,
    returned       numeric(38, 2) NOT NULL
) ON COMMIT DELETE ROWS;
