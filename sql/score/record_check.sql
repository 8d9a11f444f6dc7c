INSERT INTO mart.score_check (customers, wrong_scores, wrong_cuts, wrong_totals)
VALUES (%(customers)s, %(wrong_scores)s, %(wrong_cuts)s, %(wrong_totals)s)
