SELECT "partition", "offset", kafka_timestamp, invoice, first_partition, first_offset
FROM conflict_difference
WHERE topic = $topic
ORDER BY "partition", "offset"
