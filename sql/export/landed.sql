-- The lake's rows of a customer, each copy of an invoice one, for delta-rs's engine: the id stands in the text, since
-- that engine takes no parameters.
SELECT * FROM lake WHERE customer_id = '{customer}' ORDER BY invoice_date, kafka_timestamp, partition, "offset"
