SELECT status, reason, business_date, run_at, published_at, waiting_since,
       extract(epoch FROM now() - waiting_since)::float8 / 3600 AS waiting_hours
FROM mart.nightly_status
