INSERT INTO peer.invoice (invoice, invoice_date, customer_id, cents)
VALUES %s
ON CONFLICT (invoice) DO NOTHING
RETURNING invoice
