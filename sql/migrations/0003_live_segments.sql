-- Scores kept exact at a cost that does not grow with the customers, counts kept by deltas, and their history.
--
-- A tile boundary b (1-4) of a metric ends at position E_b = b * (n / 5) + least(b, n % 5) of the n scored customers
-- in the order of (metric, customer_id). Its cut is the key at that position: a customer's score is 1 plus the number
-- of cuts below the customer's own key. A batch moves keys, so a cut's position shifts by the keys that it moved across
-- the cut; the new cut is found by walking the metric's index by the difference, and only the customers that a batch
-- changed or that a cut passed are scored anew.

-- A cut passes customers of neighbouring ids, and with them whole pages: half a page of room keeps their new scores there
-- (HOT), without new entries in four indexes.
ALTER TABLE mart.customer SET (fillfactor = 50);
CREATE INDEX customer_by_last_purchase ON mart.customer ((last_purchase::date), customer_id) WHERE frequency > 0;
CREATE INDEX customer_by_frequency ON mart.customer (frequency, customer_id) WHERE frequency > 0;
CREATE INDEX customer_by_monetary ON mart.customer (monetary, customer_id) WHERE frequency > 0;

CREATE TABLE mart.quintile_cut (
    boundary      smallint PRIMARY KEY CHECK (boundary BETWEEN 1 AND 4),
    customers     bigint NOT NULL CHECK (customers > 0),
    r_value       date NOT NULL,
    r_customer_id text COLLATE "C" NOT NULL,
    f_value       bigint NOT NULL,
    f_customer_id text COLLATE "C" NOT NULL,
    m_value       numeric(38, 2) NOT NULL,
    m_customer_id text COLLATE "C" NOT NULL
);
COMMENT ON TABLE mart.quintile_cut IS 'The last key of tiles 1 to 4 of each metric; no row while no customer is scored.';
COMMENT ON COLUMN mart.quintile_cut.boundary IS 'The tile that ends here.';
COMMENT ON COLUMN mart.quintile_cut.customers IS 'Scored customers that the cut was made for, the same in each row.';
COMMENT ON COLUMN mart.quintile_cut.r_value IS 'Recency: date of the last purchase of the tile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.r_customer_id IS 'Recency: that customer.';
COMMENT ON COLUMN mart.quintile_cut.f_value IS 'Frequency of the tile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.f_customer_id IS 'Frequency: that customer.';
COMMENT ON COLUMN mart.quintile_cut.m_value IS 'Monetary of the tile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.m_customer_id IS 'Monetary: that customer.';

-- Works on the writer's temporary table due_customer (sql/apply/create_stage.sql). Every statement is planned when it
-- runs: a plan kept from an emptier mart would read the whole table later on.
CREATE FUNCTION mart.move_cuts() RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
DECLARE
    cut          record;
    metric       record;
    end_position bigint;
    distance     bigint;
    value        text;
    customer     text;
    new_value         text[];
    new_customer    text[];
BEGIN
    FOR cut IN EXECUTE $shift$
        SELECT q.boundary,
               q.customers + k.arrived AS customers,
               ARRAY[q.r_value::text, q.f_value::text, q.m_value::text] AS value,
               ARRAY[q.r_customer_id, q.f_customer_id, q.m_customer_id] AS customer_id,
               q.boundary * (q.customers / 5) + least(q.boundary, q.customers % 5) AS old_end_position,
               ARRAY[k.r, k.f, k.m] AS shift
        FROM mart.quintile_cut q
        CROSS JOIN LATERAL (
            SELECT count(frequency) - count(old_frequency) AS arrived,
                   count(*) FILTER (WHERE (last_purchase, customer_id) <= (q.r_value, q.r_customer_id))
                   - count(*) FILTER (WHERE (old_last_purchase, customer_id) <= (q.r_value, q.r_customer_id)) AS r,
                   count(*) FILTER (WHERE (frequency, customer_id) <= (q.f_value, q.f_customer_id))
                   - count(*) FILTER (WHERE (old_frequency, customer_id) <= (q.f_value, q.f_customer_id)) AS f,
                   count(*) FILTER (WHERE (monetary, customer_id) <= (q.m_value, q.m_customer_id))
                   - count(*) FILTER (WHERE (old_monetary, customer_id) <= (q.m_value, q.m_customer_id)) AS m
            FROM due_customer
        ) k
        ORDER BY q.boundary
    $shift$
    LOOP
        end_position := cut.boundary * (cut.customers / 5) + least(cut.boundary, cut.customers % 5);
        FOR metric IN
            SELECT * FROM (VALUES (1, 'last_purchase::date', 'date'), (2, 'frequency', 'bigint'), (3, 'monetary', 'numeric'))
                AS known (number, key, type)
        LOOP
            -- The old cut's key, present or not, now has `old_end_position + shift` keys at or below it.
            distance := end_position - cut.old_end_position - cut.shift[metric.number];
            EXECUTE format(
                $walk$
                WITH passed AS MATERIALIZED (
                    SELECT %1$s AS value, customer_id, ctid, last_purchase::date, frequency, monetary, r, f, m, segment
                    FROM mart.customer
                    WHERE frequency > 0 AND (%1$s, customer_id) %2$s (%3$L::%4$s, %5$L)
                    ORDER BY %1$s %6$s, customer_id %6$s
                    LIMIT %7$s
                ), due AS (
                    INSERT INTO due_customer
                    SELECT customer_id, ctid, last_purchase, frequency, monetary, last_purchase, frequency, monetary,
                           r, f, m, segment
                    FROM passed
                    ON CONFLICT (customer_id) DO NOTHING
                )
                SELECT value::text, customer_id FROM passed OFFSET %7$s - 1
                $walk$,
                metric.key,
                CASE WHEN distance > 0 THEN '>' ELSE '<=' END,
                cut.value[metric.number],
                metric.type,
                cut.customer_id[metric.number],
                CASE WHEN distance > 0 THEN 'ASC' ELSE 'DESC' END,
                CASE WHEN distance > 0 THEN distance ELSE 1 - distance END
            ) INTO value, customer;
            IF customer IS NULL THEN
                RETURN false;
            END IF;
            new_value[metric.number] := value;
            new_customer[metric.number] := customer;
        END LOOP;
        UPDATE mart.quintile_cut
        SET customers     = cut.customers,
            r_value       = new_value[1]::date,
            r_customer_id = new_customer[1],
            f_value       = new_value[2]::bigint,
            f_customer_id = new_customer[2],
            m_value       = new_value[3]::numeric,
            m_customer_id = new_customer[3]
        WHERE boundary = cut.boundary;
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION mart.move_cuts IS
    'Moves the cuts to where the changed customers in due_customer put them, and adds to it those that a cut passed. '
    'False: the cuts do not fit the customers and must be built anew.';

CREATE TABLE mart.score_total (
    r         smallint NOT NULL,
    f         smallint NOT NULL,
    m         smallint NOT NULL,
    customers bigint NOT NULL,
    monetary  numeric NOT NULL,
    PRIMARY KEY (r, f, m)
) WITH (fillfactor = 50);
COMMENT ON TABLE mart.score_total IS 'One row a combination of scores that occurred: its customers now, kept by the moves of each batch.';
COMMENT ON COLUMN mart.score_total.r IS 'Recency score.';
COMMENT ON COLUMN mart.score_total.f IS 'Frequency score.';
COMMENT ON COLUMN mart.score_total.m IS 'Monetary score.';
COMMENT ON COLUMN mart.score_total.customers IS 'Customers with these scores.';
COMMENT ON COLUMN mart.score_total.monetary IS 'Sum of their monetary.';

CREATE OR REPLACE VIEW mart.segment_count AS
SELECT s.segment AS customer_segment,
       coalesce(sum(t.customers), 0)::bigint AS customers,
       coalesce(sum(t.monetary), 0) AS monetary
FROM mart.segment_score s
LEFT JOIN mart.score_total t USING (r, f, m)
GROUP BY s.segment;

CREATE TABLE mart.segment_trend (
    segment   text NOT NULL,
    at        timestamptz NOT NULL,
    customers bigint NOT NULL,
    monetary  numeric NOT NULL,
    PRIMARY KEY (segment, at)
) WITH (fillfactor = 50);
CREATE INDEX segment_trend_by_time ON mart.segment_trend (at);
COMMENT ON TABLE mart.segment_trend IS 'One row a segment and minute in which a batch was applied; thinned to hours, then days, as it ages.';
COMMENT ON COLUMN mart.segment_trend.segment IS 'Segment.';
COMMENT ON COLUMN mart.segment_trend.at IS 'Start of the minute.';
COMMENT ON COLUMN mart.segment_trend.customers IS 'Customers in the segment after the minute''s last batch.';
COMMENT ON COLUMN mart.segment_trend.monetary IS 'What they had spent in all.';

CREATE VIEW mart.segment_count_history AS
SELECT at, segment AS customer_segment, customers, monetary FROM mart.segment_trend;
COMMENT ON VIEW mart.segment_count_history IS
    'One row a minute with traffic and segment: customers in it at that minute''s end and what they had spent. Older rows '
    'are the last of their hour, still older ones the last of their day.';

CREATE TABLE mart.segment_flow_total (
    day          date NOT NULL,
    from_segment text,
    to_segment   text NOT NULL,
    moves        bigint NOT NULL CHECK (moves > 0),
    UNIQUE NULLS NOT DISTINCT (day, from_segment, to_segment)
) WITH (fillfactor = 50);
COMMENT ON TABLE mart.segment_flow_total IS 'One row a day and pair of segments: how many moves mart.segment_change holds of it.';
COMMENT ON COLUMN mart.segment_flow_total.day IS 'Date of the newest invoice that the mart knew when they moved, shop''s local time.';
COMMENT ON COLUMN mart.segment_flow_total.from_segment IS 'Segment before, null for new customers.';
COMMENT ON COLUMN mart.segment_flow_total.to_segment IS 'Segment after.';
COMMENT ON COLUMN mart.segment_flow_total.moves IS 'Moves; a customer who moved twice counts twice.';
INSERT INTO mart.segment_flow_total (day, from_segment, to_segment, moves)
SELECT event_time::date, from_segment, to_segment, count(*) FROM mart.segment_change GROUP BY 1, 2, 3;

CREATE VIEW mart.segment_flow AS
SELECT from_segment, to_segment, moves AS customers, day FROM mart.segment_flow_total;
COMMENT ON VIEW mart.segment_flow IS
    'One row a day (of the newest invoice) and pair of segments: customers who moved, one who moved twice counted twice. '
    'from_segment is null for new customers.';

ALTER TABLE mart.segment_change DROP CONSTRAINT segment_change_cause_check;
ALTER TABLE mart.segment_change ADD CONSTRAINT segment_change_cause_check CHECK (
    cause IN ('own purchase', 'own return', 'overtaken', 'definition changed', 'policy changed', 'repaired')
);
COMMENT ON COLUMN mart.segment_change.cause IS
    'own purchase; own return (policy net); overtaken: others moved a tile''s boundary; definition changed: '
    'conf/segments.toml did; policy changed: RETURNS_POLICY did; repaired: the self-check found a wrong score.';
COMMENT ON COLUMN mart.segment_change.invoice IS 'Newest invoice of the customer in the batch, for an own purchase or return.';

CREATE TABLE mart.score_check (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    customers    bigint NOT NULL,
    wrong_scores bigint NOT NULL,
    wrong_cuts   bigint NOT NULL,
    wrong_totals bigint NOT NULL
);
COMMENT ON TABLE mart.score_check IS 'One row a self-check: scores, cuts and totals against a full ntile. What was wrong was repaired with it.';
COMMENT ON COLUMN mart.score_check.id IS 'Order of the checks.';
COMMENT ON COLUMN mart.score_check.checked_at IS 'When.';
COMMENT ON COLUMN mart.score_check.customers IS 'Customers that ought to be scored.';
COMMENT ON COLUMN mart.score_check.wrong_scores IS 'Customers with a wrong score or segment.';
COMMENT ON COLUMN mart.score_check.wrong_cuts IS 'Wrong cuts, of 12.';
COMMENT ON COLUMN mart.score_check.wrong_totals IS 'Combinations of scores with wrong totals.';

-- What `python -m streaming explain` and the dashboards ask of one customer. The functions read what a reader may not.

CREATE FUNCTION mart.explain_scores(customer text)
RETURNS TABLE (
    metric text, score smallint, value text, rank bigint, customers bigint, tile_begins bigint, tile_ends bigint,
    value_below text, value_above text, places_to_next bigint, next_value text, more_to_next numeric
)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
AS $$
DECLARE
    known record;
BEGIN
    FOR known IN SELECT * FROM (VALUES
        ('r', 'last_purchase::date', '1', '-infinity'), ('f', 'frequency', '1', '0'), ('m', 'monetary', '0.01', '-infinity')
    ) AS metrics (metric, key, unit, least)
    LOOP
        RETURN QUERY EXECUTE format(
            $explain$
            SELECT %1$L::text, tile.score, tile.value::text, place.rank, tile.customers, tile.begins, tile.ends,
                   below.%1$s_value::text, above.value::text,
                   CASE WHEN above.value IS NOT NULL THEN tile.ends + 1 - place.rank END,
                   needed.value::text, (needed.value - tile.value)::numeric
            FROM (
                SELECT c.%1$s AS score, c.%2$s AS value, c.customer_id, n.customers,
                       (c.%1$s - 1) * (n.customers / 5) + least(c.%1$s - 1, n.customers %% 5) + 1 AS begins,
                       c.%1$s * (n.customers / 5) + least(c.%1$s, n.customers %% 5) AS ends
                FROM mart.customer c
                JOIN mart.quintile_cut n ON n.boundary = 1
                WHERE c.customer_id = $1 AND c.frequency > 0
            ) tile
            LEFT JOIN mart.quintile_cut below ON below.boundary = tile.score - 1
            LEFT JOIN mart.quintile_cut ending ON ending.boundary = tile.score
            CROSS JOIN LATERAL (
                SELECT tile.begins - 1 + count(*) AS rank
                FROM mart.customer c
                WHERE c.frequency > 0
                  AND (c.%2$s, c.customer_id) <= (tile.value, tile.customer_id)
                  AND (c.%2$s, c.customer_id) > (coalesce(below.%1$s_value, %4$L), coalesce(below.%1$s_customer_id, ''))
            ) place
            LEFT JOIN LATERAL (
                SELECT c.%2$s AS value, c.customer_id
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.%2$s, c.customer_id) > (ending.%1$s_value, ending.%1$s_customer_id)
                ORDER BY c.%2$s, c.customer_id
                LIMIT 1
            ) above ON true
            CROSS JOIN LATERAL (
                SELECT CASE WHEN tile.customer_id > above.customer_id THEN above.value ELSE above.value + %3$s END AS value
            ) needed
            $explain$,
            known.metric, known.key, known.unit, known.least
        ) USING customer;
    END LOOP;
END
$$;
COMMENT ON FUNCTION mart.explain_scores IS
    'Three rows for a scored customer, none for another: metric (r: date of the last purchase, f: invoices, m: spent), '
    'score, value, rank among the customers (1 lowest), the ranks at which the tile begins and ends, the value that ends '
    'the tile below and the one that begins the tile above, places to climb into the next tile, the least value that '
    'does, and how much more that is (days, invoices, currency). Null where there is no tile above.';

CREATE FUNCTION mart.explain_purchases(customer text, newest integer DEFAULT 20)
RETURNS TABLE (
    invoice text, invoice_date timestamp, line_count integer, counting_lines integer, purchased numeric, returned numeric,
    applied_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.invoice, i.invoice_date, i.line_count, i.counting_lines, i.purchased, i.returned, i.applied_at
    FROM mart.invoice i
    WHERE i.customer_id = customer
    ORDER BY i.invoice_date DESC, i.invoice DESC
    LIMIT newest
$$;
COMMENT ON FUNCTION mart.explain_purchases IS 'The newest invoices of a customer, newest first.';

CREATE FUNCTION mart.explain_moves(customer text, newest integer DEFAULT 20)
RETURNS TABLE (
    changed_at timestamptz, event_time timestamp, from_segment text, to_segment text, from_r smallint, from_f smallint,
    from_m smallint, to_r smallint, to_f smallint, to_m smallint, cause text, invoice text
)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.changed_at, s.event_time, s.from_segment, s.to_segment, s.from_r, s.from_f, s.from_m, s.to_r, s.to_f, s.to_m,
           s.cause, s.invoice
    FROM mart.segment_change s
    WHERE s.customer_id = customer
    ORDER BY s.id DESC
    LIMIT newest
$$;
COMMENT ON FUNCTION mart.explain_moves IS 'The newest moves of a customer between segments, newest first.';

GRANT SELECT, INSERT, UPDATE, DELETE ON mart.quintile_cut, mart.score_total, mart.segment_trend TO mart_writer;
GRANT SELECT, INSERT, UPDATE ON mart.segment_flow_total TO mart_writer;
GRANT SELECT, INSERT ON mart.score_check TO mart_writer;
GRANT SELECT ON mart.segment_flow, mart.segment_count_history TO mart_writer, analytics_reader;
REVOKE EXECUTE ON FUNCTION mart.move_cuts, mart.explain_scores, mart.explain_purchases, mart.explain_moves FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mart.move_cuts TO mart_writer;
GRANT EXECUTE ON FUNCTION mart.explain_scores, mart.explain_purchases, mart.explain_moves TO mart_writer, analytics_reader;
