TRUNCATE staged_invoice, fresh_invoice, due_customer
