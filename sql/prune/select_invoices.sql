SELECT invoice FROM mart.invoice WHERE invoice_date < %(invoices)s::date
