-- One word for one thing: what was a stream's position is its next offset, and what ends at a cut is a quintile. A new mart
-- has these words from 0011 on; one of 0.1.0 gets them here, its functions from their own text.
DO $words$
DECLARE
    explain_scores text;
BEGIN
    IF to_regclass('mart.stream_position') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE mart.stream_position RENAME TO next_offset;
    ALTER TABLE mart.quintile_cut RENAME COLUMN boundary TO quintile;
    EXECUTE replace(replace(
        pg_get_functiondef('mart.move_cuts()'::regprocedure),
        'boundary', 'quintile'), 'end_position', 'end_rank');
    explain_scores := pg_get_functiondef('mart.explain_scores(text)'::regprocedure);
    DROP FUNCTION mart.explain_scores(text);
    EXECUTE regexp_replace(replace(replace(replace(
        explain_scores,
        'tile_begins', 'quintile_begins'), 'tile_ends', 'quintile_ends'), 'boundary', 'quintile'), '\mtile\M', 'own', 'g');
    REVOKE EXECUTE ON FUNCTION mart.explain_scores FROM public;
    GRANT EXECUTE ON FUNCTION mart.explain_scores TO mart_writer, analytics_reader;
END
$words$;

-- PostgreSQL named these after the words of then.
DO $constraints$
DECLARE
    named record;
BEGIN
    FOR named IN
        SELECT conrelid::regclass AS relation, conname AS old_name,
               replace(replace(conname, 'stream_position', 'next_offset'), '_boundary_', '_quintile_') AS new_name
        FROM pg_constraint
        WHERE conrelid IN ('mart.next_offset'::regclass, 'mart.quintile_cut'::regclass)
    LOOP
        IF named.new_name <> named.old_name THEN
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', named.relation, named.old_name, named.new_name);
        END IF;
    END LOOP;
END
$constraints$;

COMMENT ON TABLE mart.quintile_cut IS 'The cuts: the last key of quintiles 1 to 4 of each metric; no row while no customer is scored.';
COMMENT ON COLUMN mart.quintile_cut.quintile IS 'The quintile that ends here.';
COMMENT ON COLUMN mart.quintile_cut.r_value IS 'Recency: date of the last purchase of the quintile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.f_value IS 'Frequency of the quintile''s last customer.';
COMMENT ON COLUMN mart.quintile_cut.m_value IS 'Monetary of the quintile''s last customer.';
COMMENT ON COLUMN mart.batch.records IS 'Records at or after the mart''s next offsets.';
COMMENT ON COLUMN mart.segment_change.cause IS
    'own purchase; own return (policy net); overtaken: others moved a cut; definition changed: '
    'conf/segments.toml did; policy changed: RETURNS_POLICY did; repaired: the self-check found a wrong score.';
COMMENT ON FUNCTION mart.explain_scores IS
    'Three rows for a scored customer, none for another: metric (r: date of the last purchase, f: invoices, m: spent), '
    'score, value, rank among the customers (1 lowest), the ranks at which the quintile begins and ends, the value that ends '
    'the quintile below and the one that begins the quintile above, places to climb into the next quintile, the least value that '
    'does, and how much more that is (days, invoices, currency). Null where there is no quintile above.';

-- Each column of the views that an analyst reads.
COMMENT ON COLUMN mart.as_of.as_of_date IS 'Recency is measured to this date.';
COMMENT ON COLUMN mart.as_of.recency_clock IS 'RECENCY_CLOCK: newest_invoice, or wall: today in the shop.';
COMMENT ON COLUMN mart.as_of.time_zone IS 'The shop''s time zone.';
COMMENT ON COLUMN mart.as_of.returns_policy IS 'RETURNS_POLICY: ignore, or net: returns lower monetary.';
COMMENT ON COLUMN mart.as_of.newest_invoice_date IS 'Date and time of the newest invoice that moves the as-of date, in the shop''s time zone.';

COMMENT ON COLUMN mart.customer_segmentation.id IS 'A number of the mart''s own; it never changes.';
COMMENT ON COLUMN mart.customer_segmentation.customer_id IS 'The shop''s customer.';
COMMENT ON COLUMN mart.customer_segmentation.frequency IS 'Purchases: invoices with at least one invoice line that counts.';
COMMENT ON COLUMN mart.customer_segmentation.monetary IS 'What the customer has spent, in the shop''s currency; less returns under the policy net.';
COMMENT ON COLUMN mart.customer_segmentation.customer_segment IS 'Segment by the scores, first match of conf/segments.toml.';
COMMENT ON COLUMN mart.customer_segmentation.created_at IS 'When the customer''s first purchase was applied.';
COMMENT ON COLUMN mart.customer_segmentation.updated_at IS 'When the row changed last.';
COMMENT ON COLUMN mart.customer_segmentation.last_purchase IS 'Date and time of the last purchase, in the shop''s time zone.';
COMMENT ON COLUMN mart.customer_segmentation.r IS 'Recency score 1-5, 5 for the most recent quintile of the customers.';
COMMENT ON COLUMN mart.customer_segmentation.f IS 'Frequency score 1-5, 5 for the most frequent quintile of the customers.';
COMMENT ON COLUMN mart.customer_segmentation.m IS 'Monetary score 1-5, 5 for the quintile that spent most.';

COMMENT ON COLUMN mart.market_basket_analysis.id IS '1 has the highest lift.';
COMMENT ON COLUMN mart.market_basket_analysis.antecedent_names IS 'Descriptions of the products in the basket.';
COMMENT ON COLUMN mart.market_basket_analysis.consequent_names IS 'Descriptions of the products bought with them.';
COMMENT ON COLUMN mart.market_basket_analysis.confidence IS 'Of the baskets with the antecedent, the share that has the consequent, too.';
COMMENT ON COLUMN mart.market_basket_analysis.lift IS 'Confidence over the consequent''s own share of all baskets; 1: no connection.';
COMMENT ON COLUMN mart.market_basket_analysis.support IS 'Share of all baskets that hold antecedent and consequent.';
COMMENT ON COLUMN mart.market_basket_analysis.antecedent_codes IS 'Stock codes of the antecedent.';
COMMENT ON COLUMN mart.market_basket_analysis.consequent_codes IS 'Stock codes of the consequent.';
COMMENT ON COLUMN mart.market_basket_analysis.leverage IS 'Support less what it would be without a connection.';
COMMENT ON COLUMN mart.market_basket_analysis.zhang IS 'Zhang''s metric, -1 (never together) to 1 (always).';
COMMENT ON COLUMN mart.market_basket_analysis.together_count IS 'Baskets that hold antecedent and consequent.';
COMMENT ON COLUMN mart.market_basket_analysis.antecedent_count IS 'Baskets that hold the antecedent.';
COMMENT ON COLUMN mart.market_basket_analysis.consequent_count IS 'Baskets that hold the consequent.';
COMMENT ON COLUMN mart.market_basket_analysis.business_date IS 'Last business date of the run''s window.';
COMMENT ON COLUMN mart.market_basket_analysis.run_id IS 'The current run.';

COMMENT ON COLUMN mart.quarantine_count.reason IS 'Why the record was quarantined.';
COMMENT ON COLUMN mart.quarantine_count.meaning IS 'The reason in words.';
COMMENT ON COLUMN mart.quarantine_count.records IS 'Records in quarantine for it.';
COMMENT ON COLUMN mart.quarantine_count.newest_at IS 'When the newest came; null without records.';

COMMENT ON COLUMN mart.recent_latency.moment IS 'When the 5 seconds begin.';

COMMENT ON COLUMN mart.recent_minute.minute IS 'When the minute begins.';
COMMENT ON COLUMN mart.recent_minute.invoices IS 'Invoices applied in it.';
COMMENT ON COLUMN mart.recent_minute.revenue IS 'What they came to, in the shop''s currency; less returns under the policy net.';
COMMENT ON COLUMN mart.recent_minute.rejected IS 'Records quarantined in it.';

COMMENT ON COLUMN mart.rule_drift.change IS 'appeared, vanished, strengthened or weakened.';
COMMENT ON COLUMN mart.rule_drift.antecedent_names IS 'Descriptions of the products in the basket.';
COMMENT ON COLUMN mart.rule_drift.consequent_names IS 'Descriptions of the products bought with them.';
COMMENT ON COLUMN mart.rule_drift.lift_before IS 'Lift in the run before; null of a new rule.';
COMMENT ON COLUMN mart.rule_drift.lift IS 'Lift in the current run; null of a rule that is gone.';
COMMENT ON COLUMN mart.rule_drift.confidence_before IS 'Confidence in the run before.';
COMMENT ON COLUMN mart.rule_drift.confidence IS 'Confidence in the current run.';
COMMENT ON COLUMN mart.rule_drift.support_before IS 'Support in the run before.';
COMMENT ON COLUMN mart.rule_drift.support IS 'Support in the current run.';
COMMENT ON COLUMN mart.rule_drift.antecedent_codes IS 'Stock codes of the antecedent.';
COMMENT ON COLUMN mart.rule_drift.consequent_codes IS 'Stock codes of the consequent.';

COMMENT ON COLUMN mart.score_count.r IS 'Recency score.';
COMMENT ON COLUMN mart.score_count.f IS 'Frequency score.';
COMMENT ON COLUMN mart.score_count.customers IS 'Customers with both.';
COMMENT ON COLUMN mart.score_count.monetary IS 'What they have spent in all.';

COMMENT ON COLUMN mart.segment_count.customer_segment IS 'Segment.';
COMMENT ON COLUMN mart.segment_count.customers IS 'Customers in it now.';
COMMENT ON COLUMN mart.segment_count.monetary IS 'What they have spent in all.';

COMMENT ON COLUMN mart.segment_count_history.at IS 'Start of the minute.';
COMMENT ON COLUMN mart.segment_count_history.customer_segment IS 'Segment.';
COMMENT ON COLUMN mart.segment_count_history.customers IS 'Customers in it at the minute''s end.';
COMMENT ON COLUMN mart.segment_count_history.monetary IS 'What they had spent in all.';

COMMENT ON COLUMN mart.segment_flow.from_segment IS 'Segment that was left; null for new customers.';
COMMENT ON COLUMN mart.segment_flow.to_segment IS 'Segment that was entered.';
COMMENT ON COLUMN mart.segment_flow.customers IS 'Moves on that day.';
COMMENT ON COLUMN mart.segment_flow.day IS 'Date of the newest invoice at the time of the move.';

COMMENT ON COLUMN mart.segment_move.id IS 'Rises with time.';
COMMENT ON COLUMN mart.segment_move.changed_at IS 'When the move was written.';
COMMENT ON COLUMN mart.segment_move.event_time IS 'Date and time of the newest invoice then, in the shop''s time zone.';
COMMENT ON COLUMN mart.segment_move.customer_id IS 'Who moved.';
COMMENT ON COLUMN mart.segment_move.from_segment IS 'Segment before; null for a new customer.';
COMMENT ON COLUMN mart.segment_move.to_segment IS 'Segment after.';
COMMENT ON COLUMN mart.segment_move.cause IS 'As of mart.segment_change.';
COMMENT ON COLUMN mart.segment_move.invoice IS 'The purchase or return that moved them; null where it was none of their own.';
COMMENT ON COLUMN mart.segment_move.from_r IS 'Recency score before.';
COMMENT ON COLUMN mart.segment_move.from_f IS 'Frequency score before.';
COMMENT ON COLUMN mart.segment_move.from_m IS 'Monetary score before.';
COMMENT ON COLUMN mart.segment_move.to_r IS 'Recency score after.';
COMMENT ON COLUMN mart.segment_move.to_f IS 'Frequency score after.';
COMMENT ON COLUMN mart.segment_move.to_m IS 'Monetary score after.';

COMMENT ON COLUMN mart.stream_batch.id IS 'Rises with time.';
COMMENT ON COLUMN mart.stream_batch.topic IS 'Topic of its records.';
COMMENT ON COLUMN mart.stream_batch.applied_at IS 'When it was committed.';
COMMENT ON COLUMN mart.stream_batch.records IS 'Records at or after the mart''s next offsets.';
COMMENT ON COLUMN mart.stream_batch.invoices IS 'Invoices applied.';
COMMENT ON COLUMN mart.stream_batch.duplicates IS 'Records whose invoice had been applied before.';
COMMENT ON COLUMN mart.stream_batch.rejected IS 'Records quarantined.';
COMMENT ON COLUMN mart.stream_batch.apply_ms IS 'Time to apply it, milliseconds.';

COMMENT ON COLUMN mart.stream_progress.topic IS 'Name of the topic.';
COMMENT ON COLUMN mart.stream_progress."partition" IS 'Partition.';

COMMENT ON COLUMN mart.stream_status.invoices IS 'Invoices applied in all.';
COMMENT ON COLUMN mart.stream_status.duplicates IS 'Records whose invoice had been applied before, in all.';
COMMENT ON COLUMN mart.stream_status.rejected IS 'Records quarantined in all.';
COMMENT ON COLUMN mart.stream_status.last_batch_at IS 'When the last batch was committed; null before the first.';
COMMENT ON COLUMN mart.stream_status.since_batch_ms IS 'Time since then, milliseconds.';
COMMENT ON COLUMN mart.stream_status.newest_invoice_date IS 'Date and time of the newest invoice, in the shop''s time zone.';
COMMENT ON COLUMN mart.stream_status.time_zone IS 'The shop''s time zone.';
COMMENT ON COLUMN mart.stream_status.writer_topic IS 'Topic of the newest writer.';
COMMENT ON COLUMN mart.stream_status.writer_epoch IS 'Its epoch: only the newest may write.';
COMMENT ON COLUMN mart.stream_status.writer_application IS 'What it calls itself: host, process, command.';
COMMENT ON COLUMN mart.stream_status.writer_started_at IS 'When it took over.';
