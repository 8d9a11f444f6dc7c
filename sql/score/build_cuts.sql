-- The cuts anew, from every customer.
WITH boundary AS (
    SELECT b AS boundary, n AS customers, b * (n / 5) + least(b, n % 5) AS position
    FROM generate_series(1, 4) b
    CROSS JOIN (SELECT count(*) AS n FROM mart.customer WHERE frequency > 0) scored
), r AS (
    SELECT last_purchase::date AS value, customer_id,
           row_number() OVER (ORDER BY last_purchase::date, customer_id) AS position
    FROM mart.customer
    WHERE frequency > 0
), f AS (
    SELECT frequency AS value, customer_id, row_number() OVER (ORDER BY frequency, customer_id) AS position
    FROM mart.customer
    WHERE frequency > 0
), m AS (
    SELECT monetary AS value, customer_id, row_number() OVER (ORDER BY monetary, customer_id) AS position
    FROM mart.customer
    WHERE frequency > 0
)
INSERT INTO mart.quintile_cut (
    boundary, customers, r_value, r_customer_id, f_value, f_customer_id, m_value, m_customer_id
)
SELECT boundary, customers, r.value, r.customer_id, f.value, f.customer_id, m.value, m.customer_id
FROM boundary
JOIN r USING (position)
JOIN f USING (position)
JOIN m USING (position)
