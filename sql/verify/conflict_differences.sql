-- One row a landed copy with other content than the one that counts, which the mart ought to hold in quarantine.
CREATE OR REPLACE TABLE conflict_difference AS
SELECT concat(c.topic, ' ', c."partition", ':', c."offset") AS key, 'not in quarantine' AS difference,
       NULL::VARCHAR AS mart, c.invoice AS lake, c.topic, c."partition", c."offset", c.kafka_timestamp, c.invoice,
       first."partition" AS first_partition, first."offset" AS first_offset
FROM landed_copy c
JOIN landed_invoice first USING (invoice)
WHERE c.place > 1 AND c.content_sha256 <> first.content_sha256
