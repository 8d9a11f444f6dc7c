-- title: At risk, highest value first
-- chart: table
-- description: Customers in the segment At Risk, highest spend first: they bought often, but not lately.
-- refresh: 5 s
-- columns: customer_id text, monetary numeric, frequency bigint, recency integer, last_purchase timestamp
-- unit: monetary = currency, recency = days
SELECT customer_id, monetary, frequency, recency, last_purchase
FROM mart.customer_segmentation
WHERE customer_segment = 'At Risk'
ORDER BY monetary DESC, customer_id DESC
LIMIT 10
