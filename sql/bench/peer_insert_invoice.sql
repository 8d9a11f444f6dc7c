INSERT INTO peer.invoice (invoice, invoice_date, customer_id, cents)
VALUES (%s, %s, %s, %s)
ON CONFLICT (invoice) DO NOTHING
