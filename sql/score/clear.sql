DELETE FROM mart.quintile_cut;
DELETE FROM mart.score_total;
