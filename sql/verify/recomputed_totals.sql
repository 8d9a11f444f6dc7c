-- From the recomputed customers: the last key of each tile, and the customers of each combination of scores.
CREATE TABLE recomputed_cut AS
SELECT 'tile ' || boundary AS tile, customers,
       r.value AS r_value, r.id AS r_customer_id,
       f.value AS f_value, f.id AS f_customer_id,
       m.value AS m_value, m.id AS m_customer_id
FROM (
    SELECT boundary,
           (SELECT count(*) FROM recomputed_customer WHERE frequency > 0) AS customers,
           max({'value': last_purchase::DATE, 'id': customer_id}) FILTER (WHERE r <= boundary) AS r,
           max({'value': frequency, 'id': customer_id}) FILTER (WHERE f <= boundary) AS f,
           max({'value': monetary, 'id': customer_id}) FILTER (WHERE m <= boundary) AS m
    FROM recomputed_customer
    CROSS JOIN generate_series(1, 4) boundaries (boundary)
    WHERE frequency > 0
    GROUP BY boundary
);

CREATE TABLE recomputed_score AS
SELECT concat('r', r, ' f', f, ' m', m) AS score, count(*) AS customers, sum(monetary)::DECIMAL(38, 2) AS monetary
FROM recomputed_customer
WHERE frequency > 0
GROUP BY r, f, m;
