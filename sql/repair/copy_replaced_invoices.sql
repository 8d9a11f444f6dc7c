-- The invoices that are to be removed or corrected, as they stand.
COPY (
    SELECT i.*
    FROM mart.invoice i
    LEFT JOIN staged_invoice s USING (invoice)
    WHERE (i.invoice_date, i.customer_id, i.line_count, i.counting_lines, i.purchased, i.returned, i.content_sha256)
          IS DISTINCT FROM
          (s.invoice_date, s.customer_id, s.line_count, s.counting_lines, s.purchased, s.returned, s.content_sha256)
    ORDER BY i.invoice
) TO STDOUT (FORMAT csv, HEADER)
