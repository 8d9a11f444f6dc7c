-- The scores that changed, of customers read into `customer`.
SELECT customer_id, to_r AS r, to_f AS f, to_m AS m
FROM (
    SELECT *,
           ntile(5) OVER (ORDER BY last_purchase, customer_id) AS to_r,
           ntile(5) OVER (ORDER BY frequency, customer_id) AS to_f,
           ntile(5) OVER (ORDER BY cents, customer_id) AS to_m
    FROM customer
)
WHERE (r, f, m) IS DISTINCT FROM (to_r, to_f, to_m)
