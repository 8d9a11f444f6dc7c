-- Scores of the customers in due_customer by the cuts: writes the rows whose scores changed, and the totals.
-- What the batch itself changed counts before what a cut passed.
WITH due AS MATERIALIZED (
    -- In the order of the table's pages. Who was deleted has none there: they are told apart by the id.
    SELECT DISTINCT ON (row_id, customer_id) *
    FROM due_customer
    ORDER BY row_id, customer_id, passed
), tile AS (
    SELECT d.customer_id, d.row_id, d.monetary,
           CASE WHEN (d.last_purchase, d.customer_id) <= (b2.r_value, b2.r_customer_id) THEN
                    CASE WHEN (d.last_purchase, d.customer_id) <= (b1.r_value, b1.r_customer_id) THEN 1 ELSE 2 END
                WHEN (d.last_purchase, d.customer_id) <= (b3.r_value, b3.r_customer_id) THEN 3
                WHEN (d.last_purchase, d.customer_id) <= (b4.r_value, b4.r_customer_id) THEN 4
                ELSE 5
           END AS to_r,
           CASE WHEN (d.frequency, d.customer_id) <= (b2.f_value, b2.f_customer_id) THEN
                    CASE WHEN (d.frequency, d.customer_id) <= (b1.f_value, b1.f_customer_id) THEN 1 ELSE 2 END
                WHEN (d.frequency, d.customer_id) <= (b3.f_value, b3.f_customer_id) THEN 3
                WHEN (d.frequency, d.customer_id) <= (b4.f_value, b4.f_customer_id) THEN 4
                ELSE 5
           END AS to_f,
           CASE WHEN (d.monetary, d.customer_id) <= (b2.m_value, b2.m_customer_id) THEN
                    CASE WHEN (d.monetary, d.customer_id) <= (b1.m_value, b1.m_customer_id) THEN 1 ELSE 2 END
                WHEN (d.monetary, d.customer_id) <= (b3.m_value, b3.m_customer_id) THEN 3
                WHEN (d.monetary, d.customer_id) <= (b4.m_value, b4.m_customer_id) THEN 4
                ELSE 5
           END AS to_m,
           d.old_segment AS from_segment, d.old_r AS from_r, d.old_f AS from_f, d.old_m AS from_m
    FROM due d
    JOIN mart.quintile_cut b1 ON b1.boundary = 1
    JOIN mart.quintile_cut b2 ON b2.boundary = 2
    JOIN mart.quintile_cut b3 ON b3.boundary = 3
    JOIN mart.quintile_cut b4 ON b4.boundary = 4
    WHERE d.frequency IS NOT NULL
    OFFSET 0 -- or each tile is worked out twice, for the join and for the result
), scored AS MATERIALIZED (
    SELECT tile.*, s.segment AS to_segment
    FROM tile
    -- One number in place of three: the planner expects as many rows as there are, and joins them accordingly.
    JOIN mart.segment_score s ON s.r * 25 + s.f * 5 + s.m = to_r * 25 + to_f * 5 + to_m
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM scored
    WHERE c.ctid = scored.row_id
      AND (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, to_segment)
), totalled AS (
    INSERT INTO mart.score_total AS t (r, f, m, customers, monetary)
    SELECT r, f, m, sum(customers), sum(monetary)
    FROM (
        SELECT to_r AS r, to_f AS f, to_m AS m, 1 AS customers, monetary FROM scored
        UNION ALL
        SELECT old_r, old_f, old_m, -1, -old_monetary FROM due WHERE old_frequency IS NOT NULL
    ) delta
    GROUP BY r, f, m
    HAVING sum(customers) <> 0 OR sum(monetary) <> 0
    ORDER BY r, f, m
    ON CONFLICT (r, f, m) DO UPDATE
    SET customers = t.customers + excluded.customers, monetary = t.monetary + excluded.monetary
), {moves}
