-- Scores and segments of the customers that a batch, a repair or an erasure changed. Usually the batch moves the cuts
-- and rescores the customers that are due. If there are no cuts, or most customers changed, everything is cleared and
-- scored with a full ntile. Then the moves are recorded. The check compares the current state with a full ntile.

-- name: is_outdated
-- Whether scored customers have no cuts yet, or segments by other definitions than today's.
SELECT NOT EXISTS (SELECT FROM mart.quintile_cut) AND EXISTS (SELECT FROM mart.customer WHERE frequency > 0)
       OR EXISTS (
           SELECT
           FROM mart.customer c
           JOIN mart.segment_score s ON (s.r, s.f, s.m) = (c.r, c.f, c.m)
           WHERE c.segment <> s.segment
       )

-- name: count_due
-- The number of scored customers that the cuts were made for (null: no cuts yet), and of customers that the batch
-- changed.
SELECT (SELECT customers FROM mart.quintile_cut WHERE quintile = 1), (SELECT count(*) FROM due_customer)

-- name: move_cuts
-- Adds to due_customer those whom a cut passed. False: the cuts do not fit the customers; all are then scored by_ntile.
SELECT mart.move_cuts()

-- name: by_cuts
-- Scores the customers in due_customer by the cuts: writes the rows whose scores changed, and the totals. A change by
-- the batch itself takes precedence over being passed by a cut.
WITH due AS MATERIALIZED (
    -- In the order of the table's pages. Deleted customers have none; the id tells them apart.
    SELECT DISTINCT ON (row_id, customer_id) *
    FROM due_customer
    ORDER BY row_id, customer_id, passed
), place AS (
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
    JOIN mart.quintile_cut b1 ON b1.quintile = 1
    JOIN mart.quintile_cut b2 ON b2.quintile = 2
    JOIN mart.quintile_cut b3 ON b3.quintile = 3
    JOIN mart.quintile_cut b4 ON b4.quintile = 4
    WHERE d.frequency IS NOT NULL
    OFFSET 0 -- otherwise each place is computed twice, for the join and for the result
), scored AS MATERIALIZED (
    SELECT place.*, s.segment AS to_segment
    FROM place
    -- One number instead of three: the planner then expects the right number of rows, and joins accordingly.
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
), {score/moves}

-- name: clear
-- For the full ntile, which rewrites both.
DELETE FROM mart.quintile_cut;
DELETE FROM mart.score_total;

-- name: place
-- Each customer's quintiles by a full ntile and the places of the cuts, for by_ntile and check. mod() instead of the
-- operator, whose sign would have to be doubled for psycopg2 in the one of them that takes parameters, and only there.
place AS MATERIALIZED (
    SELECT customer_id, last_purchase::date AS last_purchase, frequency, monetary,
           r AS from_r, f AS from_f, m AS from_m, segment AS from_segment,
           ntile(5) OVER by_r AS to_r, row_number() OVER by_r AS r_rank,
           ntile(5) OVER by_f AS to_f, row_number() OVER by_f AS f_rank,
           ntile(5) OVER by_m AS to_m, row_number() OVER by_m AS m_rank
    FROM mart.customer
    WHERE frequency > 0
    WINDOW by_r AS (ORDER BY last_purchase::date, customer_id),
           by_f AS (ORDER BY frequency, customer_id),
           by_m AS (ORDER BY monetary, customer_id)
), quintile_end AS (
    SELECT b AS quintile, n AS customers, b * (n / 5) + least(b, mod(n, 5)) AS end_rank
    FROM generate_series(1, 4) b
    CROSS JOIN (SELECT count(*) AS n FROM place) scored
)

-- name: by_ntile
-- Scores every customer with a full ntile: writes the rows whose scores changed, and rewrites all cuts and totals.
WITH {score/place}, cut AS (
    INSERT INTO mart.quintile_cut (
        quintile, customers, r_value, r_customer_id, f_value, f_customer_id, m_value, m_customer_id
    )
    SELECT quintile, customers, r.last_purchase, r.customer_id, f.frequency, f.customer_id, m.monetary, m.customer_id
    FROM quintile_end
    JOIN place r ON r.r_rank = end_rank
    JOIN place f ON f.f_rank = end_rank
    JOIN place m ON m.m_rank = end_rank
), totalled AS (
    INSERT INTO mart.score_total (r, f, m, customers, monetary)
    SELECT to_r, to_f, to_m, count(*), sum(monetary) FROM place GROUP BY to_r, to_f, to_m
), scored AS MATERIALIZED (
    SELECT place.*, s.segment AS to_segment
    FROM place
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
    WHERE (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
), written AS (
    UPDATE mart.customer c
    SET r = to_r, f = to_f, m = to_m, segment = to_segment, updated_at = now()
    FROM scored
    WHERE c.customer_id = scored.customer_id
), {score/moves}

-- name: moves
-- The end of by_cuts and by_ntile: who changed segment, and why, from their `scored`.
own AS (
    SELECT DISTINCT ON (customer_id)
           customer_id, invoice, CASE WHEN counting_lines > 0 THEN 'own purchase' ELSE 'own return' END AS cause
    FROM fresh_invoice
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    ORDER BY customer_id, counting_lines > 0 DESC, invoice_date DESC, invoice DESC
), clock AS (
    -- If every invoice is ahead of the clock: now.
    SELECT coalesce(newest_invoice_date, now() AT TIME ZONE time_zone) AS newest_invoice_date FROM mart.shop
), moved AS (
    -- Without a given cause, the batch's own invoices decide it.
    INSERT INTO mart.segment_change (
        customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m, cause, invoice, event_time
    )
    SELECT customer_id, from_segment, to_segment, from_r, from_f, from_m, to_r, to_f, to_m,
           coalesce(%(cause)s, own.cause, 'overtaken'), own.invoice, (SELECT newest_invoice_date FROM clock)
    FROM scored
    LEFT JOIN own USING (customer_id)
    WHERE from_segment IS DISTINCT FROM to_segment
    ORDER BY customer_id -- as in the index of the moves: neighbours are written together
    RETURNING from_segment, to_segment
), flow AS (
    INSERT INTO mart.segment_flow_total AS t (day, from_segment, to_segment, moves)
    SELECT (SELECT newest_invoice_date::date FROM clock), from_segment, to_segment, count(*)
    FROM moved
    GROUP BY from_segment, to_segment
    ON CONFLICT (day, from_segment, to_segment) DO UPDATE SET moves = t.moves + excluded.moves
)
SELECT count(*) FROM moved

-- name: record_history
-- The segments' sizes at this minute; the last batch of a minute wins.
INSERT INTO mart.segment_trend (segment, at, customers, monetary)
SELECT customer_segment, date_trunc('minute', clock_timestamp()), customers, monetary FROM mart.segment_count
ON CONFLICT (segment, at) DO UPDATE SET customers = excluded.customers, monetary = excluded.monetary

-- name: thin_history
-- Of minutes older than the first bound the last of each hour is kept, beyond the second bound the last of each day;
-- hours and days are the shop's.
DELETE FROM mart.segment_trend t
USING (
    SELECT segment, at,
           at < now() - make_interval(days => %(minutes_kept_days)s)
           AND lead(at) OVER (PARTITION BY segment, date_trunc('hour', at, time_zone) ORDER BY at) IS NOT NULL
           OR at < now() - make_interval(days => %(hours_kept_days)s)
           AND lead(at) OVER (PARTITION BY segment, date_trunc('day', at, time_zone) ORDER BY at) IS NOT NULL
               AS superseded
    FROM mart.segment_trend
    CROSS JOIN mart.shop
) aged
WHERE superseded AND (t.segment, t.at) = (aged.segment, aged.at)

-- name: check
-- One row, compared with a full ntile: customers that should be scored, wrong scores or segments, wrong cuts, wrong
-- totals.
WITH {score/place}, score AS (
    SELECT count(*) AS customers,
           count(*) FILTER (
               WHERE (from_r, from_f, from_m, from_segment) IS DISTINCT FROM (to_r, to_f, to_m, s.segment)
           ) AS wrong
    FROM place
    JOIN mart.segment_score s ON (s.r, s.f, s.m) = (to_r, to_f, to_m)
), cut AS (
    SELECT coalesce(sum(
               ((r.last_purchase, r.customer_id, b.customers)
                IS DISTINCT FROM (q.r_value, q.r_customer_id, q.customers))::int
               + ((f.frequency, f.customer_id) IS DISTINCT FROM (q.f_value, q.f_customer_id))::int
               + ((m.monetary, m.customer_id) IS DISTINCT FROM (q.m_value, q.m_customer_id))::int
           ), 0) AS wrong
    FROM quintile_end b
    LEFT JOIN mart.quintile_cut q USING (quintile)
    LEFT JOIN place r ON r.r_rank = b.end_rank
    LEFT JOIN place f ON f.f_rank = b.end_rank
    LEFT JOIN place m ON m.m_rank = b.end_rank
    WHERE b.customers > 0 OR q.quintile IS NOT NULL
), total AS (
    SELECT count(*) FILTER (
               WHERE (coalesce(kept.customers, 0), coalesce(kept.monetary, 0))
                     IS DISTINCT FROM (coalesce(counted.customers, 0), coalesce(counted.monetary, 0))
           ) AS wrong
    FROM mart.score_total kept
    FULL JOIN (
        SELECT to_r AS r, to_f AS f, to_m AS m, count(*) AS customers, sum(monetary) AS monetary
        FROM place
        GROUP BY to_r, to_f, to_m
    ) counted USING (r, f, m)
)
SELECT score.customers, score.wrong, cut.wrong, total.wrong FROM score, cut, total

-- name: record_check
INSERT INTO mart.score_check (customers, wrong_scores, wrong_cuts, wrong_totals)
VALUES (%(customers)s, %(wrong_scores)s, %(wrong_cuts)s, %(wrong_totals)s)
