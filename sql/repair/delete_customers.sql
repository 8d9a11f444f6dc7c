DELETE FROM mart.customer c WHERE NOT EXISTS (SELECT FROM recounted_customer n WHERE n.customer_id = c.customer_id)
