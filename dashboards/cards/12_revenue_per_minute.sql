-- title: Revenue per minute
-- chart: bar
-- description: Revenue of the invoices applied in each minute of the last hour; the last column is the current minute.
-- refresh: 1 s
-- columns: minute timestamptz, revenue numeric
-- unit: revenue = currency
SELECT minute, revenue
FROM mart.recent_minute
ORDER BY minute
