COPY (
    SELECT invoices, purchased, returned, newest_invoice_date FROM mart.pruned_total
) TO STDOUT (FORMAT csv, HEADER)
