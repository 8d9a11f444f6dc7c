-- title: Invoices a minute
-- chart: bar
-- description: One column a minute of the last hour: invoices applied in it; the last column is the running minute.
-- refresh: 1 s
-- columns: minute timestamptz, invoices bigint
SELECT minute, invoices
FROM mart.recent_minute
ORDER BY minute
