SELECT coalesce(sum(records), 0)::bigint AS records, coalesce(sum(rejected), 0)::bigint AS rejected
FROM mart.stream_batch
WHERE topic = %(topic)s AND applied_at > now() - %(minutes)s * interval '1 minute'
