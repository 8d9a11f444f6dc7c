CREATE TABLE mart_invoice AS
SELECT * FROM read_csv(
    '{folder}/invoices.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'invoice': 'VARCHAR', 'invoice_date': 'TIMESTAMP', 'customer_id': 'VARCHAR', 'line_count': 'INTEGER',
        'counting_lines': 'INTEGER', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'content_sha256': 'VARCHAR'
    }}
);
CREATE TABLE mart_customer AS
SELECT * FROM read_csv(
    '{folder}/customers.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'customer_id': 'VARCHAR', 'frequency': 'BIGINT', 'monetary': 'DECIMAL(38, 2)', 'last_purchase': 'TIMESTAMP',
        'r': 'SMALLINT', 'f': 'SMALLINT', 'm': 'SMALLINT', 'segment': 'VARCHAR'
    }}
);
CREATE TABLE conflict AS
SELECT * FROM read_csv(
    '{folder}/conflicts.csv', header = true, auto_detect = false,
    columns = {{'topic': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT'}}
);
CREATE TABLE pruned AS
SELECT * FROM read_csv(
    '{folder}/pruned.csv', header = true, auto_detect = false, quote = '"', escape = '"',
    columns = {{'invoice': 'VARCHAR'}}
);
CREATE TABLE carried AS
SELECT * FROM read_csv(
    '{folder}/carried.csv', header = true, nullstr = '', auto_detect = false, quote = '"', escape = '"', columns = {{
        'customer_id': 'VARCHAR', 'frequency': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)',
        'last_purchase': 'TIMESTAMP'
    }}
);
CREATE TABLE stream_position (topic VARCHAR, "partition" INTEGER, next_offset BIGINT);
