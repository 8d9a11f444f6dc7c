-- title: Invoices a second
-- chart: area
-- description: One point each 5 seconds of the last 10 minutes: invoices applied a second; the running 5 seconds have none yet.
-- refresh: 1 s
-- columns: moment timestamptz, invoices_per_second numeric
SELECT moment, invoices_per_second
FROM mart.recent_latency
ORDER BY moment
