-- Whether scored customers have no cuts yet, or segments by other definitions than today's.
SELECT NOT EXISTS (SELECT FROM mart.quintile_cut) AND EXISTS (SELECT FROM mart.customer WHERE frequency > 0)
       OR EXISTS (
           SELECT
           FROM mart.customer c
           JOIN mart.segment_score s ON (s.r, s.f, s.m) = (c.r, c.f, c.m)
           WHERE c.segment <> s.segment
       )
