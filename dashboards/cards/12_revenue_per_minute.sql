-- title: Revenue a minute
-- chart: bar
-- description: One column a minute of the last hour: revenue of the invoices applied in it; the last column is the running minute.
-- refresh: 1 s
-- columns: minute timestamptz, revenue numeric
-- unit: revenue = currency
SELECT minute, revenue
FROM mart.recent_minute
ORDER BY minute
