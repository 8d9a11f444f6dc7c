SELECT frequency, purchased, returned, last_purchase FROM mart.customer_carried WHERE customer_id = %(customer)s
