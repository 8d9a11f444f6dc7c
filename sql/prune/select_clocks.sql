-- One row: the date that recency is measured to (null in an empty mart), and now.
SELECT (SELECT as_of_date FROM mart.as_of), now()
