-- One invoice each of so many customers: one in twenty is new, the others are drawn from the frequent ones more often.
INSERT INTO fresh_invoice (invoice, invoice_date, customer_id, counting_lines, purchased, returned)
SELECT %(batch)s || '-' || customer_id, timestamp '2025-07-01' + make_interval(mins => %(batch)s * 10), customer_id, 3,
       round((5 + 200 * random() ^ 3)::numeric, 2), 0
FROM (
    (
        SELECT customer_id
        FROM mart.customer
        WHERE frequency > 0
        ORDER BY random() ^ (1.0 / sqrt(frequency)) DESC
        LIMIT %(changed)s - %(changed)s / 20
    )
    UNION ALL
    SELECT 'new-' || %(batch)s || '-' || n FROM generate_series(1, %(changed)s / 20) n
) buyer
