INSERT INTO peer.customer AS c (customer_id, frequency, cents, last_purchase, newest_record)
VALUES %s
ON CONFLICT (customer_id) DO UPDATE
SET frequency     = excluded.frequency,
    cents         = excluded.cents,
    last_purchase = excluded.last_purchase,
    newest_record = excluded.newest_record
