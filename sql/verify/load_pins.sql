-- What of the mart the recomputing needs: how far each partition is applied and landed, which landed copies the mart
-- refused, which one it applied of each invoice, whom it has erased, and what the invoices that it pruned came to.
CREATE TABLE stream_position (topic VARCHAR, "partition" INTEGER, next_offset BIGINT, landed_offset BIGINT);
CREATE TABLE erased (customer_sha256 VARCHAR);
CREATE TABLE refused AS
SELECT * FROM read_csv(
    '{folder}/refused.csv', header = true, auto_detect = false, columns = {{
        'topic': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT', 'kafka_us': 'BIGINT', 'reason': 'VARCHAR'
    }}
);
CREATE TABLE applied AS
SELECT * FROM read_csv(
    '{folder}/applied.csv', header = true, auto_detect = false, quote = '"', escape = '"',
    columns = {{'invoice': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT', 'kafka_us': 'BIGINT'}}
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
CREATE TABLE pruned_total AS
SELECT * FROM read_csv(
    '{folder}/pruned_total.csv', header = true, nullstr = '', auto_detect = false, columns = {{
        'invoices': 'BIGINT', 'purchased': 'DECIMAL(38, 2)', 'returned': 'DECIMAL(38, 2)', 'newest_invoice_date': 'TIMESTAMP'
    }}
);
