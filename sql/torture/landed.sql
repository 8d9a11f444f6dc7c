-- One row a record; copies of one record that differ give two rows.
SELECT DISTINCT "partition", "offset", invoice,
       list_sum(list_transform(lines, line -> (line.quantity * line.price::DECIMAL(38, 2) * 100)::HUGEINT)) AS cents
FROM lake
