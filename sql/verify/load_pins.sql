-- What of the mart the recomputing needs: how far each partition is applied and landed, which landed copies the mart
-- refused, and whom it has erased.
CREATE TABLE stream_position (topic VARCHAR, "partition" INTEGER, next_offset BIGINT, landed_offset BIGINT);
CREATE TABLE erased (customer_sha256 VARCHAR);
CREATE TABLE conflict AS
SELECT * FROM read_csv(
    '{folder}/conflicts.csv', header = true, auto_detect = false,
    columns = {{'topic': 'VARCHAR', 'partition': 'INTEGER', 'offset': 'BIGINT', 'kafka_us': 'BIGINT'}}
);
