INSERT INTO mart.customer (customer_id, last_purchase, frequency, monetary)
SELECT customer_id, last_purchase, frequency, monetary
FROM recounted_customer
WHERE customer_id NOT IN (SELECT customer_id FROM mart.customer)
ORDER BY customer_id
