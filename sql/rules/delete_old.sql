-- Keeps the newest published runs, and whatever the age the current one and the one that it is compared with.
DELETE FROM mart.rule_run
WHERE id <= (SELECT id FROM mart.rule_run WHERE status = 'published' ORDER BY id DESC OFFSET %(kept)s LIMIT 1)
  AND id NOT IN (SELECT unnest(ARRAY[id, coalesce(previous_run_id, id)]) FROM mart.rule_run WHERE is_current)
