-- One row: micro-batches, lines in the mart, lines of the batches after the first, and the seconds that those took.
WITH batch AS (
    SELECT min(applied_at) AS first, max(applied_at) AS last, count(*) AS batches FROM mart.batch WHERE records > 0
)
SELECT batches,
       (SELECT sum(line_count) FROM mart.invoice),
       (SELECT coalesce(sum(line_count), 0) FROM mart.invoice WHERE applied_at > batch.first),
       extract(epoch FROM last - first)
FROM batch
