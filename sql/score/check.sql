-- One row, against a full ntile: customers that ought to be scored, wrong scores or segments, wrong cuts, wrong totals.
WITH tile AS MATERIALIZED (
    SELECT customer_id, last_purchase::date AS last_purchase, frequency, monetary, r, f, m, segment,
           ntile(5) OVER by_r AS to_r, row_number() OVER by_r AS r_position,
           ntile(5) OVER by_f AS to_f, row_number() OVER by_f AS f_position,
           ntile(5) OVER by_m AS to_m, row_number() OVER by_m AS m_position
    FROM mart.customer
    WHERE frequency > 0
    WINDOW by_r AS (ORDER BY last_purchase::date, customer_id),
           by_f AS (ORDER BY frequency, customer_id),
           by_m AS (ORDER BY monetary, customer_id)
), score AS (
    SELECT count(*) AS customers,
           count(*) FILTER (
               WHERE (tile.r, tile.f, tile.m, tile.segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
           ) AS wrong
    FROM tile
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
), boundary AS (
    SELECT b AS boundary, n AS customers, b * (n / 5) + least(b, n % 5) AS position
    FROM generate_series(1, 4) b
    CROSS JOIN (SELECT customers AS n FROM score) scored
), cut AS (
    SELECT coalesce(sum(
               ((r.last_purchase, r.customer_id, b.customers)
                IS DISTINCT FROM (q.r_value, q.r_customer_id, q.customers))::int
               + ((f.frequency, f.customer_id) IS DISTINCT FROM (q.f_value, q.f_customer_id))::int
               + ((m.monetary, m.customer_id) IS DISTINCT FROM (q.m_value, q.m_customer_id))::int
           ), 0) AS wrong
    FROM boundary b
    LEFT JOIN mart.quintile_cut q USING (boundary)
    LEFT JOIN tile r ON r.r_position = b.position
    LEFT JOIN tile f ON f.f_position = b.position
    LEFT JOIN tile m ON m.m_position = b.position
    WHERE b.customers > 0 OR q.boundary IS NOT NULL
), total AS (
    SELECT count(*) FILTER (
               WHERE (coalesce(kept.customers, 0), coalesce(kept.monetary, 0))
                     IS DISTINCT FROM (coalesce(counted.customers, 0), coalesce(counted.monetary, 0))
           ) AS wrong
    FROM mart.score_total kept
    FULL JOIN (
        SELECT to_r AS r, to_f AS f, to_m AS m, count(*) AS customers, sum(monetary) AS monetary
        FROM tile
        GROUP BY to_r, to_f, to_m
    ) counted USING (r, f, m)
)
SELECT score.customers, score.wrong, cut.wrong, total.wrong FROM score, cut, total
