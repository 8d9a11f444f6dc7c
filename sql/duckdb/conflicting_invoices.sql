-- How many invoices of a window the lake holds with more than one content, wherever the other copy's date lies.
SELECT count(*) AS invoices
FROM (
    SELECT invoice
    FROM lake
    GROUP BY invoice
    HAVING min(content_sha256) <> max(content_sha256)
       AND bool_or(business_date > $after AND business_date <= $until)
)
