COPY (
    SELECT customer_id, last_purchase::date AS last_purchase, frequency, (monetary * 100)::bigint AS cents, r, f, m
    FROM mart.customer
    WHERE frequency > 0
) TO STDOUT (FORMAT csv, HEADER)
