-- Association rules: versioned runs, the views of the current one, and the recommendation.

CREATE TABLE mart.rule_run (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status          text NOT NULL CHECK (status IN ('published', 'kept back')),
    reason          text,
    is_current      boolean NOT NULL DEFAULT false,
    previous_run_id bigint REFERENCES mart.rule_run ON DELETE SET NULL,
    business_date   date NOT NULL,
    window_days     integer NOT NULL CHECK (window_days > 0),
    min_support     numeric NOT NULL CHECK (min_support > 0 AND min_support <= 1),
    min_confidence  numeric NOT NULL CHECK (min_confidence >= 0 AND min_confidence <= 1),
    max_items       integer CHECK (max_items >= 2),
    engine          text,
    lake            text NOT NULL,
    lake_version    bigint NOT NULL CHECK (lake_version >= 0),
    invoices        bigint CHECK (invoices >= 0),
    baskets         bigint CHECK (baskets >= 0),
    products        bigint CHECK (products >= 0),
    itemsets        bigint CHECK (itemsets >= 0),
    rules           bigint CHECK (rules >= 0),
    seconds         jsonb NOT NULL,
    code_version    text NOT NULL,
    started_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((status = 'kept back') = (reason IS NOT NULL)),
    CHECK (status = 'published' OR NOT is_current),
    CHECK (status <> 'published' OR (engine IS NOT NULL AND rules IS NOT NULL AND baskets > 0))
);
CREATE UNIQUE INDEX rule_run_current ON mart.rule_run (is_current) WHERE is_current;
COMMENT ON TABLE mart.rule_run IS 'One row a nightly run that was published, or kept back by a guard.';
COMMENT ON COLUMN mart.rule_run.id IS 'Order of the runs.';
COMMENT ON COLUMN mart.rule_run.status IS 'published, or kept back: a guard refused it and it changed nothing.';
COMMENT ON COLUMN mart.rule_run.reason IS 'Why it was kept back.';
COMMENT ON COLUMN mart.rule_run.is_current IS 'True for the one run whose rules the views show.';
COMMENT ON COLUMN mart.rule_run.previous_run_id IS 'The run that was current before it; null for the first, or if that one is no longer kept.';
COMMENT ON COLUMN mart.rule_run.business_date IS 'Last business date of the window.';
COMMENT ON COLUMN mart.rule_run.window_days IS 'Business dates in the window.';
COMMENT ON COLUMN mart.rule_run.min_support IS 'Least share of the baskets that hold an itemset.';
COMMENT ON COLUMN mart.rule_run.min_confidence IS 'Least confidence of a rule.';
COMMENT ON COLUMN mart.rule_run.max_items IS 'Most items of a rule, both sides; null: any number.';
COMMENT ON COLUMN mart.rule_run.engine IS 'What mined the itemsets: eclat or fpgrowth.';
COMMENT ON COLUMN mart.rule_run.lake IS 'Delta table that was read.';
COMMENT ON COLUMN mart.rule_run.lake_version IS 'Version of that table.';
COMMENT ON COLUMN mart.rule_run.invoices IS 'Invoices of the window with at least one line that counts.';
COMMENT ON COLUMN mart.rule_run.baskets IS 'Invoices with at least 2 distinct products: what the shares are shares of.';
COMMENT ON COLUMN mart.rule_run.products IS 'Distinct products of the window.';
COMMENT ON COLUMN mart.rule_run.itemsets IS 'Frequent itemsets.';
COMMENT ON COLUMN mart.rule_run.rules IS 'Rules.';
COMMENT ON COLUMN mart.rule_run.seconds IS 'Seconds of each phase before the publishing.';
COMMENT ON COLUMN mart.rule_run.code_version IS 'Version of the job, with the commit where it is known.';
COMMENT ON COLUMN mart.rule_run.started_at IS 'When the run began.';
COMMENT ON COLUMN mart.rule_run.created_at IS 'When it was written, just before its commit.';

CREATE TABLE mart.association_rule (
    run_id            bigint NOT NULL REFERENCES mart.rule_run ON DELETE CASCADE,
    id                integer NOT NULL CHECK (id > 0),
    antecedent_codes  text[] NOT NULL CHECK (cardinality(antecedent_codes) > 0),
    antecedent_names  text[] NOT NULL CHECK (cardinality(antecedent_names) = cardinality(antecedent_codes)),
    consequent_code   text NOT NULL CHECK (consequent_code <> ALL (antecedent_codes)),
    consequent_name   text NOT NULL,
    lead_code         text COLLATE "C" NOT NULL CHECK (lead_code = ANY (antecedent_codes)),
    together_count    bigint NOT NULL CHECK (together_count > 0),
    antecedent_count  bigint NOT NULL CHECK (antecedent_count >= together_count),
    consequent_count  bigint NOT NULL CHECK (consequent_count >= together_count),
    support           double precision NOT NULL CHECK (support > 0 AND support <= 1),
    confidence        double precision NOT NULL CHECK (confidence > 0 AND confidence <= 1),
    lift              double precision NOT NULL CHECK (lift BETWEEN 1 AND 1e18),
    leverage          double precision NOT NULL CHECK (leverage BETWEEN 0 AND 0.25),
    conviction        double precision CHECK (conviction BETWEEN 1 AND 1e18),
    zhang             double precision NOT NULL CHECK (zhang BETWEEN 0 AND 1),
    PRIMARY KEY (run_id, id)
);
CREATE INDEX association_rule_by_lead ON mart.association_rule (run_id, lead_code);
COMMENT ON TABLE mart.association_rule IS 'One row a rule of a run: baskets with the antecedent hold the consequent too.';
COMMENT ON COLUMN mart.association_rule.run_id IS 'The run.';
COMMENT ON COLUMN mart.association_rule.id IS 'Place in the run by lift, 1 the highest.';
COMMENT ON COLUMN mart.association_rule.antecedent_codes IS 'Stock codes of the antecedent, in order.';
COMMENT ON COLUMN mart.association_rule.antecedent_names IS 'Their names, in the order of the codes.';
COMMENT ON COLUMN mart.association_rule.consequent_code IS 'Stock code of the consequent.';
COMMENT ON COLUMN mart.association_rule.consequent_name IS 'Its name.';
COMMENT ON COLUMN mart.association_rule.lead_code IS 'The antecedent''s product that is in the fewest antecedents: recommend() finds the rule by it.';
COMMENT ON COLUMN mart.association_rule.together_count IS 'Baskets that hold both sides.';
COMMENT ON COLUMN mart.association_rule.antecedent_count IS 'Baskets that hold the antecedent.';
COMMENT ON COLUMN mart.association_rule.consequent_count IS 'Baskets that hold the consequent.';
COMMENT ON COLUMN mart.association_rule.support IS 'Share of the baskets that hold both sides.';
COMMENT ON COLUMN mart.association_rule.confidence IS 'Share of the antecedent''s baskets that hold the consequent.';
COMMENT ON COLUMN mart.association_rule.lift IS 'Confidence over the share of all baskets that hold the consequent; 1 is chance.';
COMMENT ON COLUMN mart.association_rule.leverage IS 'Support less what chance would give.';
COMMENT ON COLUMN mart.association_rule.conviction IS '(1 - share of the consequent) / (1 - confidence); null stands for infinity, where the confidence is 1.';
COMMENT ON COLUMN mart.association_rule.zhang IS 'Zhang''s metric, from 0 (chance) to 1.';

CREATE VIEW mart.market_basket_analysis AS
SELECT r.id,
       r.antecedent_names,
       ARRAY[r.consequent_name] AS consequent_names,
       r.confidence,
       r.lift,
       r.support,
       run.created_at,
       r.antecedent_codes,
       ARRAY[r.consequent_code] AS consequent_codes,
       r.leverage,
       r.conviction,
       r.zhang,
       r.together_count,
       r.antecedent_count,
       r.consequent_count,
       run.baskets,
       run.business_date,
       run.id AS run_id
FROM mart.association_rule r
JOIN mart.rule_run run ON run.id = r.run_id
WHERE run.is_current;
COMMENT ON VIEW mart.market_basket_analysis IS 'One row a rule of the current run, id 1 with the highest lift.';
COMMENT ON COLUMN mart.market_basket_analysis.created_at IS 'When the run was published.';
COMMENT ON COLUMN mart.market_basket_analysis.baskets IS 'Baskets of the run: support x baskets = together_count.';
COMMENT ON COLUMN mart.market_basket_analysis.conviction IS 'Null stands for infinity, where the confidence is 1.';

CREATE VIEW mart.rule_drift AS
WITH run AS (SELECT id, previous_run_id FROM mart.rule_run WHERE is_current AND previous_run_id IS NOT NULL),
now AS (SELECT r.* FROM mart.association_rule r JOIN run ON r.run_id = run.id),
before AS (SELECT r.* FROM mart.association_rule r JOIN run ON r.run_id = run.previous_run_id)
SELECT CASE WHEN before.id IS NULL THEN 'appeared'
            WHEN now.id IS NULL THEN 'vanished'
            WHEN now.lift > before.lift THEN 'strengthened'
            ELSE 'weakened' END AS change,
       coalesce(now.antecedent_names, before.antecedent_names) AS antecedent_names,
       ARRAY[coalesce(now.consequent_name, before.consequent_name)] AS consequent_names,
       before.lift AS lift_before,
       now.lift AS lift,
       before.confidence AS confidence_before,
       now.confidence,
       before.support AS support_before,
       now.support,
       coalesce(now.antecedent_codes, before.antecedent_codes) AS antecedent_codes,
       ARRAY[coalesce(now.consequent_code, before.consequent_code)] AS consequent_codes
FROM now
FULL JOIN before ON before.consequent_code = now.consequent_code AND before.antecedent_codes = now.antecedent_codes
WHERE now.lift IS DISTINCT FROM before.lift;
COMMENT ON VIEW mart.rule_drift IS 'One row a rule that differs between the current run and the one that was current before it; strengthened or weakened by lift.';

CREATE FUNCTION mart.recommend(stock_codes text[], n integer DEFAULT 5)
RETURNS TABLE (stock_code text, name text, because text[], confidence double precision, lift double precision,
               support double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = mart, pg_temp
AS $$
    SELECT consequent_code, consequent_name, antecedent_names, confidence, lift, support
    FROM (
        SELECT DISTINCT ON (r.consequent_code) r.*
        FROM mart.association_rule r
        WHERE r.run_id = (SELECT id FROM mart.rule_run WHERE is_current)
          AND r.lead_code = ANY (stock_codes)
          AND r.antecedent_codes <@ stock_codes
          AND r.consequent_code <> ALL (stock_codes)
        ORDER BY r.consequent_code, r.confidence * r.lift DESC, r.id
    ) best
    ORDER BY confidence * lift DESC, id
    LIMIT greatest(n, 0)
$$;
COMMENT ON FUNCTION mart.recommend IS
    'What customers who buy these also take: up to n products, each by the current rule with the highest confidence x lift whose antecedent lies within the given stock codes.';

REVOKE ALL ON FUNCTION mart.recommend FROM PUBLIC;
GRANT EXECUTE ON FUNCTION mart.recommend TO mart_writer, analytics_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON mart.rule_run, mart.association_rule TO mart_writer;
GRANT SELECT ON mart.market_basket_analysis, mart.rule_drift TO mart_writer, analytics_reader;
