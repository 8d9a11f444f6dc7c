-- title: Customers by segment
-- chart: bar
-- description: Customers in each segment now, the change over the last hour (or since the first batch, if the mart is younger), and their total spend.
-- refresh: 1 s
-- columns: customer_segment text, customers bigint, change_last_hour bigint, monetary numeric
-- unit: monetary = currency
SELECT customer_segment, now_in.customers,
       now_in.customers - coalesce(hour_ago.customers, first.customers) AS change_last_hour, now_in.monetary
FROM mart.segment_count now_in
LEFT JOIN LATERAL (
    SELECT customers
    FROM mart.segment_count_history h
    WHERE h.customer_segment = now_in.customer_segment AND at <= now() - interval '1 hour'
    ORDER BY at DESC
    LIMIT 1
) hour_ago ON true
LEFT JOIN LATERAL (
    SELECT customers
    FROM mart.segment_count_history h
    WHERE h.customer_segment = now_in.customer_segment
    ORDER BY at
    LIMIT 1
) first ON true
ORDER BY now_in.customers DESC, customer_segment
