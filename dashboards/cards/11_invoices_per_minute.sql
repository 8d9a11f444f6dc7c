-- title: Invoices per minute
-- chart: bar
-- description: Invoices applied in each minute of the last hour; the last column is the current minute.
-- refresh: 1 s
-- columns: minute timestamptz, invoices bigint
SELECT minute, invoices
FROM mart.recent_minute
ORDER BY minute
