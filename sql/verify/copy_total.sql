COPY (
    SELECT 'shop' AS total, invoices, purchased, returned, newest_invoice_date
    FROM mart.stream_total
    CROSS JOIN mart.shop
) TO STDOUT (FORMAT csv, HEADER)
