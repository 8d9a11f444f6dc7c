-- Cheaper upkeep of the scores of many customers.

-- A customer's moves are few: they can be put in order when they are asked for. Without the id, equal keys share an entry,
-- and each batch writes thousands of random places of an index that is little more than half as large.
DROP INDEX mart.segment_change_of_customer;
CREATE INDEX segment_change_of_customer ON mart.segment_change (customer_id);

-- Works on the writer's temporary table due_customer (sql/apply/create_stage.sql). The plans are made once a session: with
-- these settings each walk can only follow its metric's index, whatever the number of customers. Of the two directions of
-- a walk, one has a limit of 0 and is not run.
CREATE OR REPLACE FUNCTION mart.move_cuts() RETURNS boolean
LANGUAGE plpgsql
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    cut      record;
    new_cut  record;
    distance bigint;
    walk_r   bigint;
    walk_f   bigint;
    walk_m   bigint;
BEGIN
    FOR cut IN
        SELECT q.*,
               q.customers + k.arrived AS new_customers,
               q.boundary * (q.customers / 5) + least(q.boundary, q.customers % 5) AS end_position,
               k.r_shift, k.f_shift, k.m_shift
        FROM mart.quintile_cut q
        CROSS JOIN LATERAL (
            SELECT count(frequency) - count(old_frequency) AS arrived,
                   count(*) FILTER (WHERE (last_purchase, customer_id) <= (q.r_value, q.r_customer_id))
                   - count(*) FILTER (WHERE (old_last_purchase, customer_id) <= (q.r_value, q.r_customer_id)) AS r_shift,
                   count(*) FILTER (WHERE (frequency, customer_id) <= (q.f_value, q.f_customer_id))
                   - count(*) FILTER (WHERE (old_frequency, customer_id) <= (q.f_value, q.f_customer_id)) AS f_shift,
                   count(*) FILTER (WHERE (monetary, customer_id) <= (q.m_value, q.m_customer_id))
                   - count(*) FILTER (WHERE (old_monetary, customer_id) <= (q.m_value, q.m_customer_id)) AS m_shift
            FROM due_customer
            WHERE NOT passed
        ) k
        ORDER BY q.boundary
    LOOP
        -- The old cut's key, present or not, now has `end_position + shift` keys at or below it. The new cut is
        -- the walk-th key above it; with a walk of 0 or less, the (1 - walk)-th of those at or below it, downwards.
        distance := cut.boundary * (cut.new_customers / 5) + least(cut.boundary, cut.new_customers % 5) - cut.end_position;
        walk_r := distance - cut.r_shift;
        walk_f := distance - cut.f_shift;
        walk_m := distance - cut.m_shift;
        WITH by_last_purchase AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.last_purchase::date, c.customer_id) > (cut.r_value, cut.r_customer_id)
                ORDER BY c.last_purchase::date, c.customer_id
                LIMIT greatest(walk_r, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.last_purchase::date, c.customer_id) <= (cut.r_value, cut.r_customer_id)
                ORDER BY c.last_purchase::date DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_r, 0)
            )
        ), by_frequency AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.frequency, c.customer_id) > (cut.f_value, cut.f_customer_id)
                ORDER BY c.frequency, c.customer_id
                LIMIT greatest(walk_f, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.frequency, c.customer_id) <= (cut.f_value, cut.f_customer_id)
                ORDER BY c.frequency DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_f, 0)
            )
        ), by_monetary AS MATERIALIZED (
            (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.monetary, c.customer_id) > (cut.m_value, cut.m_customer_id)
                ORDER BY c.monetary, c.customer_id
                LIMIT greatest(walk_m, 0)
            ) UNION ALL (
                SELECT c.customer_id, c.ctid, c.last_purchase::date, c.frequency, c.monetary, c.r, c.f, c.m, c.segment
                FROM mart.customer c
                WHERE c.frequency > 0 AND (c.monetary, c.customer_id) <= (cut.m_value, cut.m_customer_id)
                ORDER BY c.monetary DESC, c.customer_id DESC
                LIMIT greatest(1 - walk_m, 0)
            )
        ), due AS (
            INSERT INTO due_customer
            SELECT customer_id, ctid, last_purchase, frequency, monetary, last_purchase, frequency, monetary,
                   r, f, m, segment, true
            FROM (TABLE by_last_purchase UNION ALL TABLE by_frequency UNION ALL TABLE by_monetary) passed
        )
        SELECT last_r.last_purchase AS r_value, last_r.customer_id AS r_customer_id,
               last_f.frequency AS f_value, last_f.customer_id AS f_customer_id,
               last_m.monetary AS m_value, last_m.customer_id AS m_customer_id
        INTO new_cut
        FROM (SELECT * FROM by_last_purchase OFFSET greatest(walk_r, 1 - walk_r) - 1) last_r
        CROSS JOIN (SELECT * FROM by_frequency OFFSET greatest(walk_f, 1 - walk_f) - 1) last_f
        CROSS JOIN (SELECT * FROM by_monetary OFFSET greatest(walk_m, 1 - walk_m) - 1) last_m;
        IF new_cut.r_customer_id IS NULL THEN
            RETURN false;
        END IF;
        UPDATE mart.quintile_cut
        SET customers     = cut.new_customers,
            r_value       = new_cut.r_value,
            r_customer_id = new_cut.r_customer_id,
            f_value       = new_cut.f_value,
            f_customer_id = new_cut.f_customer_id,
            m_value       = new_cut.m_value,
            m_customer_id = new_cut.m_customer_id
        WHERE boundary = cut.boundary;
    END LOOP;
    RETURN true;
END
$$;
