-- title: Invoices per second, last 10 min
-- group: operations
-- chart: area
-- description: Invoices applied per second, in steps of 5 seconds over the last 10 minutes; the current 5 seconds are not shown yet.
-- refresh: 1 s
-- columns: moment timestamptz, invoices_per_second numeric
SELECT moment, invoices_per_second
FROM mart.recent_latency
ORDER BY moment
