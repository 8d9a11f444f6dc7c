COPY (
    SELECT customer_id, frequency, monetary, last_purchase, r, f, m, segment
    FROM mart.customer
    WHERE frequency > 0 OR monetary <> 0
) TO STDOUT (FORMAT csv, HEADER)
