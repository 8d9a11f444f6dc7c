-- Scores of every customer by a full ntile: writes the rows whose scores changed, and all cuts and totals anew.
WITH tile AS MATERIALIZED (
    SELECT customer_id, last_purchase::date AS last_purchase, frequency, monetary,
           r AS from_r, f AS from_f, m AS from_m, segment AS from_segment,
           ntile(5) OVER by_r AS to_r, row_number() OVER by_r AS r_position,
           ntile(5) OVER by_f AS to_f, row_number() OVER by_f AS f_position,
           ntile(5) OVER by_m AS to_m, row_number() OVER by_m AS m_position
    FROM mart.customer
    WHERE frequency > 0
    WINDOW by_r AS (ORDER BY last_purchase::date, customer_id),
           by_f AS (ORDER BY frequency, customer_id),
           by_m AS (ORDER BY monetary, customer_id)
), boundary AS (
    SELECT b AS boundary, n AS customers, b * (n / 5) + least(b, n %% 5) AS position
    FROM generate_series(1, 4) b
    CROSS JOIN (SELECT count(*) AS n FROM tile) scored
), cut AS (
    INSERT INTO mart.quintile_cut (
        boundary, customers, r_value, r_customer_id, f_value, f_customer_id, m_value, m_customer_id
    )
    SELECT boundary, customers, r.last_purchase, r.customer_id, f.frequency, f.customer_id, m.monetary, m.customer_id
    FROM boundary
    JOIN tile r ON r.r_position = position
    JOIN tile f ON f.f_position = position
    JOIN tile m ON m.m_position = position
), totalled AS (
    INSERT INTO mart.score_total (r, f, m, customers, monetary)
    SELECT to_r, to_f, to_m, count(*), sum(monetary) FROM tile GROUP BY to_r, to_f, to_m
), scored AS MATERIALIZED (
    SELECT tile.*, s.segment AS to_segment
    FROM tile
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
    WHERE (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM scored
    WHERE c.customer_id = scored.customer_id
), {moves}
