INSERT INTO mart.reject_reason (reason, meaning) VALUES %s
ON CONFLICT (reason) DO UPDATE SET meaning = excluded.meaning
WHERE reject_reason.meaning <> excluded.meaning
