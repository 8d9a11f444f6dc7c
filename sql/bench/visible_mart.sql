SELECT coalesce(sum(frequency), 0) FROM mart.customer
