-- Of minutes older than the first bound the last of each hour stays, beyond the second bound the last of each day; hours
-- and days are the shop's.
DELETE FROM mart.segment_trend t
USING (
    SELECT segment, at,
           at < now() - make_interval(days => %(minutes_kept_days)s)
           AND lead(at) OVER (PARTITION BY segment, date_trunc('hour', at, time_zone) ORDER BY at) IS NOT NULL
           OR at < now() - make_interval(days => %(hours_kept_days)s)
           AND lead(at) OVER (PARTITION BY segment, date_trunc('day', at, time_zone) ORDER BY at) IS NOT NULL
               AS superseded
    FROM mart.segment_trend
    CROSS JOIN mart.shop
) aged
WHERE superseded AND (t.segment, t.at) = (aged.segment, aged.at)
