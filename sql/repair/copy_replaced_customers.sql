-- The customers who are to be removed or corrected, as they stand; wrong scores alone are not among them.
COPY (
    SELECT c.*
    FROM mart.customer c
    LEFT JOIN recounted_customer n USING (customer_id)
    WHERE (c.last_purchase, c.frequency, c.monetary) IS DISTINCT FROM (n.last_purchase, n.frequency, n.monetary)
    ORDER BY c.customer_id
) TO STDOUT (FORMAT csv, HEADER)
