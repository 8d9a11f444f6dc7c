-- Scored customers that the cuts were made for (null: no cuts yet), and customers that the batch changed.
SELECT (SELECT customers FROM mart.quintile_cut WHERE boundary = 1), (SELECT count(*) FROM due_customer)
