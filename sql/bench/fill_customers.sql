-- A shop of so many customers: most bought once or twice, few very often; the last purchases of a year, more of them recent.
INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary)
SELECT customer_id,
       timestamp '2025-06-30' - make_interval(days => (365 * recency * recency)::int, mins => (600 * recency)::int),
       frequency,
       round((frequency * (5 + 200 * spent * spent * spent))::numeric, 2)
FROM (
    SELECT (10000000 + n)::text AS customer_id, random() AS recency, random() AS spent,
           least(1 + floor(0.6 / (random() + 0.0005)), 300)::bigint AS frequency
    FROM generate_series(1, %(customers)s) n
) made_up
