-- title: Quarantine by reason
-- group: operations
-- chart: bar
-- description: Records that were not applied, by reason, and when the newest arrived.
-- refresh: 5 s
-- columns: reason text, records bigint, newest_at timestamptz
SELECT reason, records, newest_at
FROM mart.quarantine_count
WHERE records > 0
ORDER BY records DESC, reason
