SELECT sum(hashtextextended(concat_ws(' ', customer_id, r, f, m, segment), 0)::numeric) FROM mart.customer
