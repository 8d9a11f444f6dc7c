CREATE OR REPLACE TABLE mart_invoice AS
SELECT * FROM read_csv(
    '{folder}/invoice.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'invoice': 'VARCHAR', 'invoice_date': 'TIMESTAMP', 'customer_id': 'VARCHAR', 'line_count': 'INTEGER',
        'counting_lines': 'INTEGER', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'content_sha256': 'VARCHAR'
    }}
);
CREATE OR REPLACE TABLE mart_customer AS
SELECT * FROM read_csv(
    '{folder}/customer.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'customer_id': 'VARCHAR', 'frequency': 'BIGINT', 'monetary': 'DECIMAL(38, 2)', 'last_purchase': 'TIMESTAMP',
        'r': 'SMALLINT', 'f': 'SMALLINT', 'm': 'SMALLINT', 'segment': 'VARCHAR'
    }}
);
CREATE OR REPLACE TABLE mart_cut AS
SELECT * FROM read_csv(
    '{folder}/cut.csv', header = true, auto_detect = false, quote = '"', escape = '"', columns = {{
        'tile': 'VARCHAR', 'customers': 'BIGINT', 'r_value': 'DATE', 'r_customer_id': 'VARCHAR', 'f_value': 'BIGINT',
        'f_customer_id': 'VARCHAR', 'm_value': 'DECIMAL(38, 2)', 'm_customer_id': 'VARCHAR'
    }}
);
CREATE OR REPLACE TABLE mart_score AS
SELECT * FROM read_csv(
    '{folder}/score.csv', header = true, auto_detect = false,
    columns = {{'score': 'VARCHAR', 'customers': 'BIGINT', 'monetary': 'DECIMAL(38, 2)'}}
);
CREATE OR REPLACE TABLE mart_total AS
SELECT * FROM read_csv(
    '{folder}/total.csv', header = true, nullstr = '', auto_detect = false, columns = {{
        'total': 'VARCHAR', 'invoices': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'newest_invoice_date': 'TIMESTAMP'
    }}
);
