-- What operators do: settle quarantined records, erase customers.

ALTER TABLE mart.rejected_invoice
    ADD COLUMN outcome    text CHECK (outcome IN ('redriven', 'in the mart already', 'erased')),
    ADD COLUMN settled_at timestamptz,
    ADD CHECK ((outcome IS NULL) = (settled_at IS NULL));
CREATE INDEX rejected_invoice_open ON mart.rejected_invoice (topic, topic_id, "partition", "offset") WHERE outcome IS NULL;
COMMENT ON COLUMN mart.rejected_invoice.outcome IS
    'Null while it waits. redriven: its value was sent to the topic again; in the mart already: an invoice of this number '
    'and content was applied meanwhile; erased: its value was of a customer who asked for erasure, and is gone.';
COMMENT ON COLUMN mart.rejected_invoice.settled_at IS 'When.';
COMMENT ON COLUMN mart.rejected_invoice.reason IS 'Why (mart.reject_reason), by the rules of the last try.';

-- Of records of one topic: what `redrive` may find out, and nothing else of a row.
GRANT UPDATE (reason, detail, outcome, settled_at) ON mart.rejected_invoice TO mart_writer;

CREATE OR REPLACE VIEW mart.quarantine_count AS
SELECT reason.reason, reason.meaning, coalesce(rejected.records, 0) AS records, rejected.newest_at
FROM mart.reject_reason reason
LEFT JOIN LATERAL (
    SELECT count(*) AS records, max(rejected_at) AS newest_at
    FROM mart.rejected_invoice r
    WHERE r.reason = reason.reason AND r.outcome IS NULL
) rejected ON true;
COMMENT ON VIEW mart.quarantine_count IS
    'One row a reason, also those without records: records that wait in quarantine for it, and when the newest came.';

CREATE TABLE mart.erasure_salt (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    salt     bytea NOT NULL CHECK (length(salt) = 32)
);
COMMENT ON TABLE mart.erasure_salt IS 'One row: what customers'' ids are salted with in mart.erased_customer and in the lake''s copy of it.';
COMMENT ON COLUMN mart.erasure_salt.only_row IS 'Always true: there is one mart.';
COMMENT ON COLUMN mart.erasure_salt.salt IS 'Random bytes.';
INSERT INTO mart.erasure_salt (salt)
VALUES (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

CREATE TABLE mart.erased_customer (
    customer_sha256 bytea PRIMARY KEY CHECK (length(customer_sha256) = 32),
    erased_at       timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE mart.erased_customer IS 'Erased customers: their invoices, sent again or new, are applied without the customer.';
COMMENT ON COLUMN mart.erased_customer.customer_sha256 IS 'SHA-256 of the salt and the customer''s id in UTF-8.';
COMMENT ON COLUMN mart.erased_customer.erased_at IS 'When the customer was erased first.';
GRANT SELECT ON mart.erasure_salt, mart.erased_customer TO mart_writer;
