COPY (
    SELECT customer_id, frequency, purchased, returned, last_purchase FROM mart.customer_carried
) TO STDOUT (FORMAT csv, HEADER)
