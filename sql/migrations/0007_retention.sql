-- Retention: invoices may leave the mart, and what they added up to stays. Rights that nobody used go, too.

CREATE TABLE mart.pruned_invoice (
    invoice text COLLATE "C" PRIMARY KEY
);
COMMENT ON TABLE mart.pruned_invoice IS 'Numbers of invoices that were pruned: a record with one of them is a duplicate, whenever it comes.';
COMMENT ON COLUMN mart.pruned_invoice.invoice IS 'Invoice number, as the store gave it.';

CREATE TABLE mart.customer_carried (
    customer_id   text COLLATE "C" PRIMARY KEY,
    frequency     bigint NOT NULL CHECK (frequency >= 0),
    purchased     numeric(38, 2) NOT NULL CHECK (purchased BETWEEN 0 AND 1e35),
    returned      numeric(38, 2) NOT NULL CHECK (returned BETWEEN -1e35 AND 0),
    last_purchase timestamp,
    CHECK ((frequency = 0) = (last_purchase IS NULL))
);
COMMENT ON TABLE mart.customer_carried IS
    'One row a customer of whom invoices were pruned: what these came to. mart.customer counts them on.';
COMMENT ON COLUMN mart.customer_carried.customer_id IS 'Customer, as in the event.';
COMMENT ON COLUMN mart.customer_carried.frequency IS 'Pruned invoices with at least one counting line.';
COMMENT ON COLUMN mart.customer_carried.purchased IS 'Sum of purchased over the pruned invoices.';
COMMENT ON COLUMN mart.customer_carried.returned IS 'Sum of returned over them: zero or negative.';
COMMENT ON COLUMN mart.customer_carried.last_purchase IS 'Newest date of one with a counting line, shop''s local time.';

CREATE TABLE mart.pruned_total (
    only_row            boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    invoices            bigint NOT NULL DEFAULT 0,
    purchased           numeric(38, 2) NOT NULL DEFAULT 0,
    returned            numeric(38, 2) NOT NULL DEFAULT 0,
    newest_invoice_date timestamp
);
INSERT INTO mart.pruned_total DEFAULT VALUES;
COMMENT ON TABLE mart.pruned_total IS 'One row: what all pruned invoices came to, those without a customer included.';
COMMENT ON COLUMN mart.pruned_total.only_row IS 'Always true.';
COMMENT ON COLUMN mart.pruned_total.invoices IS 'How many they were.';
COMMENT ON COLUMN mart.pruned_total.purchased IS 'Sum of purchased.';
COMMENT ON COLUMN mart.pruned_total.returned IS 'Sum of returned: zero or negative.';
COMMENT ON COLUMN mart.pruned_total.newest_invoice_date IS 'Date of the newest, shop''s local time; null if there was none.';

CREATE FUNCTION mart.explain_carried(customer text)
RETURNS TABLE (frequency bigint, purchased numeric, returned numeric, last_purchase timestamp)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.frequency, c.purchased, c.returned, c.last_purchase
    FROM mart.customer_carried c
    WHERE c.customer_id = customer
$$;
COMMENT ON FUNCTION mart.explain_carried IS 'What a customer''s pruned invoices came to; no row if none was pruned.';

ALTER TABLE mart.rejected_invoice DROP CONSTRAINT rejected_invoice_outcome_check;
ALTER TABLE mart.rejected_invoice ADD CONSTRAINT rejected_invoice_outcome_check
    CHECK (outcome IN ('redriven', 'in the mart already', 'erased', 'pruned'));
COMMENT ON COLUMN mart.rejected_invoice.outcome IS
    'Null while it waits. redriven: its value was sent to the topic again; in the mart already: an invoice of this number '
    'and content was applied meanwhile; erased: its value was of a customer who asked for erasure, and is gone; pruned: its '
    'value went by age, and the rest stays because `verify` needs to know which copies in the lake were refused.';
COMMENT ON COLUMN mart.rejected_invoice.raw IS
    'The record''s value, byte for byte; null where it had none, and where it was erased or pruned.';
COMMENT ON TABLE mart.segment_flow_total IS
    'One row a day and pair of segments: how many moves there were, also those that mart.segment_change no longer holds '
    '(of erased customers, and pruned ones).';

GRANT SELECT ON mart.pruned_invoice, mart.pruned_total, mart.customer_carried TO mart_writer;
REVOKE EXECUTE ON FUNCTION mart.explain_carried FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mart.explain_carried TO mart_writer, analytics_reader;

-- A rule is never changed, and goes with its run, as the owner.
REVOKE UPDATE, DELETE ON mart.association_rule FROM mart_writer;
REVOKE EXECUTE ON FUNCTION mart.count_batch FROM PUBLIC;
