-- One row a basket: an invoice's distinct stock codes in order, where they are at least 2.
CREATE TEMP TABLE basket AS
SELECT invoice, list(DISTINCT stock_code ORDER BY stock_code) AS items
FROM sold_line
GROUP BY invoice
HAVING count(DISTINCT stock_code) >= 2
