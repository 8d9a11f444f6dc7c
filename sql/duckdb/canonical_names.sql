-- One row a stock code: its most frequent description; ties by newest, then alphabet.
WITH described AS (
    SELECT stock_code, description, count(*) AS lines, max(invoice_date) AS newest
    FROM sold_line
    GROUP BY stock_code, description
)
SELECT stock_code, description
FROM described
QUALIFY row_number() OVER (PARTITION BY stock_code ORDER BY lines DESC, newest DESC, description) = 1
