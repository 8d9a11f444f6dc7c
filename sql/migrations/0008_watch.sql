-- What `python -m streaming watch` and the job's metrics ask of the mart: how far the topic is applied, and how the
-- nightly job is. Views, so that the watch needs no more than analytics_reader.

CREATE VIEW mart.stream_progress AS
SELECT topic, topic_id, "partition", next_offset, updated_at FROM mart.stream_position;
COMMENT ON VIEW mart.stream_progress IS 'One row a partition of a topic: how far it is applied.';
COMMENT ON COLUMN mart.stream_progress.topic_id IS 'Kafka''s id of the topic: a re-created topic has another.';
COMMENT ON COLUMN mart.stream_progress.next_offset IS 'First offset that is not applied yet.';
COMMENT ON COLUMN mart.stream_progress.updated_at IS 'When it moved last.';

CREATE VIEW mart.nightly_status AS
SELECT newest.id AS run_id,
       newest.status,
       newest.reason,
       newest.business_date,
       newest.created_at AS run_at,
       published.published_at,
       coalesce(published.published_at, made.made_at) AS waiting_since
FROM (SELECT min(applied_at) AS made_at FROM public.migration) made
CROSS JOIN (SELECT max(created_at) AS published_at FROM mart.rule_run WHERE status = 'published') published
LEFT JOIN LATERAL (SELECT * FROM mart.rule_run ORDER BY id DESC LIMIT 1) newest ON true;
COMMENT ON VIEW mart.nightly_status IS 'One row: the newest run of the nightly job, and when rules were published last.';
COMMENT ON COLUMN mart.nightly_status.run_id IS 'The newest run; null before the first.';
COMMENT ON COLUMN mart.nightly_status.status IS 'Its status: published, or kept back by a guard.';
COMMENT ON COLUMN mart.nightly_status.reason IS 'Why it was kept back.';
COMMENT ON COLUMN mart.nightly_status.business_date IS 'Last business date of its window.';
COMMENT ON COLUMN mart.nightly_status.run_at IS 'When it was written.';
COMMENT ON COLUMN mart.nightly_status.published_at IS 'When the newest published run was written; null before the first.';
COMMENT ON COLUMN mart.nightly_status.waiting_since IS 'The same; before the first, when the mart was made.';

GRANT SELECT ON mart.stream_progress, mart.nightly_status TO mart_writer, analytics_reader;
