INSERT INTO mart.shop (returns_policy, recency_clock, time_zone)
VALUES (%(returns_policy)s, %(recency_clock)s, %(time_zone)s)
ON CONFLICT (only_row) DO UPDATE
SET recency_clock = excluded.recency_clock, time_zone = excluded.time_zone, returns_policy = excluded.returns_policy
