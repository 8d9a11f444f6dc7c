DELETE FROM mart.score_total
