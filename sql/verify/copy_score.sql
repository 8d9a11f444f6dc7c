COPY (
    SELECT concat('r', r, ' f', f, ' m', m) AS score, customers, monetary
    FROM mart.score_total
    WHERE customers <> 0 OR monetary <> 0
) TO STDOUT (FORMAT csv, HEADER)
