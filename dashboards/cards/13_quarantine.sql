-- title: Quarantine by reason
-- chart: bar
-- description: One bar a reason: the records that were not applied because of it, and when the newest came.
-- refresh: 5 s
-- columns: reason text, records bigint, newest_at timestamptz
SELECT reason, records, newest_at
FROM mart.quarantine_count
WHERE records > 0
ORDER BY records DESC, reason
