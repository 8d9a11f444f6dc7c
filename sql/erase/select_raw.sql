SELECT topic_id::text, "partition", "offset", raw FROM mart.rejected_invoice WHERE raw IS NOT NULL
