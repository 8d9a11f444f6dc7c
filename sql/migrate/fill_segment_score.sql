INSERT INTO mart.segment_score (r, f, m, segment) VALUES %s
ON CONFLICT (r, f, m) DO UPDATE SET segment = excluded.segment
WHERE segment_score.segment <> excluded.segment
