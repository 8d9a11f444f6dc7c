-- The stream checks the scores and changes nothing: who looks must see what the newest check found.
COMMENT ON TABLE mart.score_check IS 'One row a check: scores, cuts and totals against a full ntile. It changes nothing; `verify --repair` repairs, and checks again.';

CREATE VIEW mart.score_status AS
SELECT checked_at, customers, wrong_scores + wrong_cuts + wrong_totals AS wrong
FROM mart.score_check
ORDER BY id DESC
LIMIT 1;
COMMENT ON VIEW mart.score_status IS 'The newest check of the scores against a full ntile; no row before the first one.';
COMMENT ON COLUMN mart.score_status.checked_at IS 'When.';
COMMENT ON COLUMN mart.score_status.customers IS 'Customers that ought to be scored.';
COMMENT ON COLUMN mart.score_status.wrong IS 'Wrong scores, cuts and totals; 0: all are right.';
GRANT SELECT ON mart.score_status TO mart_writer, analytics_reader;
