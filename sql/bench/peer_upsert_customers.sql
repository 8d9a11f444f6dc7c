INSERT INTO peer.customer AS c (customer_id, frequency, cents, last_purchase, newest_record)
VALUES %s
ON CONFLICT (customer_id) DO UPDATE
SET frequency     = c.frequency + excluded.frequency,
    cents         = c.cents + excluded.cents,
    last_purchase = greatest(c.last_purchase, excluded.last_purchase),
    newest_record = greatest(c.newest_record, excluded.newest_record)
