-- With the self-checks of their time; the newest batch stays, for mart.stream_status. mart.stream_total keeps the sums.
WITH checked AS (
    DELETE FROM mart.score_check WHERE checked_at < %(batches)s::timestamptz
)
DELETE FROM mart.batch
WHERE applied_at < %(batches)s::timestamptz AND id < (SELECT max(id) FROM mart.batch)
