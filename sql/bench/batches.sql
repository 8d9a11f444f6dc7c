SELECT count(*), coalesce(avg(records), 0)
FROM mart.batch
WHERE applied_at > %(start)s + make_interval(secs => %(after)s) AND records > 0
