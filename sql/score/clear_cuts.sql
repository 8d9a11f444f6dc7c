DELETE FROM mart.quintile_cut
