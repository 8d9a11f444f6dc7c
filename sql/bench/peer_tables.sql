-- What the peers keep. Their customers hold what each of them can keep current by itself; scores and segment are worked
-- out by a view whenever somebody reads them, which costs the peer nothing when it writes.
CREATE SCHEMA peer;

CREATE TABLE peer.invoice (  -- the idempotency key, of those peers that keep one
    invoice      text COLLATE "C" PRIMARY KEY,
    invoice_date timestamp NOT NULL,
    customer_id  text COLLATE "C",
    cents        bigint NOT NULL
);

CREATE TABLE peer.customer (
    customer_id   text COLLATE "C" PRIMARY KEY,
    frequency     bigint NOT NULL,
    cents         bigint NOT NULL,
    last_purchase timestamp NOT NULL,
    newest_record timestamptz NOT NULL  -- Kafka's timestamp of the newest record in this row
);

CREATE TABLE peer.segment_score (
    r       smallint,
    f       smallint,
    m       smallint,
    segment text NOT NULL,
    PRIMARY KEY (r, f, m)
);

CREATE VIEW peer.customer_segmentation AS
SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment
FROM (
    SELECT customer_id, frequency, cents::numeric / 100 AS monetary, last_purchase,
           ntile(5) OVER (ORDER BY last_purchase::date, customer_id) AS r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS f,
           ntile(5) OVER (ORDER BY cents, customer_id) AS m
    FROM peer.customer
) scored
JOIN peer.segment_score USING (r, f, m);
