-- A cut passes thousands of customers a batch: due_customer takes them as they come, a customer twice where two cuts pass
-- it, and sql/score/by_cuts.sql takes each once. Looking each up in a unique index first cost more than the walk itself.

-- Works on the writer's temporary table due_customer (sql/apply/create_stage.sql). Every statement is planned when it
-- runs: a plan kept from an emptier mart would read the whole table later on.
CREATE OR REPLACE FUNCTION mart.move_cuts() RETURNS boolean
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
    new_value    text[];
    new_customer text[];
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
            WHERE NOT passed
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
                           r, f, m, segment, true
                    FROM passed
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
