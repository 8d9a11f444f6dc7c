CREATE TEMPORARY TABLE IF NOT EXISTS new_score (customer_id text COLLATE "C", r smallint, f smallint, m smallint) ON COMMIT DELETE ROWS
