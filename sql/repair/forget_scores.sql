-- A customer without a purchase has no scores; by_ntile looks at the others only.
UPDATE mart.customer
SET r = NULL, f = NULL, m = NULL, segment = NULL
WHERE frequency = 0 AND (r, f, m, segment) IS DISTINCT FROM (NULL, NULL, NULL, NULL)
