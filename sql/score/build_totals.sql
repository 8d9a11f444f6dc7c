INSERT INTO mart.score_total (r, f, m, customers, monetary)
SELECT r, f, m, count(*), sum(monetary)
FROM mart.customer
WHERE frequency > 0
GROUP BY r, f, m
