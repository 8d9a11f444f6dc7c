-- One row a copy of an invoice that the lake holds and the mart has read; `place` 1 counts: the copy that the mart applied,
-- and of an invoice that it lost the earliest. A copy that the mart has in quarantine is none, nor is one of an invoice that
-- it pruned; a customer whom the mart has erased is nobody here, and with the customer went the digest that would tell
-- copies of other content.
-- Landed and not yet applied are the offsets from next_offset to landed_offset. Of a topic that was deleted and made anew
-- there are two records at an offset: then it is the newer one that is not applied yet.
CREATE TABLE landed_copy AS
WITH unapplied AS (
    SELECT lake.topic, lake."partition", lake."offset", max(lake.kafka_timestamp) AS kafka_timestamp
    FROM lake
    JOIN stream_position p ON p.topic = lake.topic AND p."partition" = lake."partition"
    WHERE lake."offset" >= p.next_offset AND lake."offset" < p.landed_offset
    GROUP BY ALL
), due AS (
    SELECT lake.*,
           EXISTS (FROM erased) AND sha256($salt || customer_id) IN (SELECT customer_sha256 FROM erased) AS is_erased
    FROM lake
    WHERE EXISTS (
              SELECT 1 FROM stream_position p WHERE p.topic = lake.topic AND p."partition" = lake."partition"
          )
      AND NOT EXISTS (
          SELECT 1 FROM unapplied u
          WHERE u.topic = lake.topic AND u."partition" = lake."partition" AND u."offset" = lake."offset"
            AND u.kafka_timestamp = lake.kafka_timestamp
      )
      AND NOT EXISTS (
          SELECT 1 FROM refused r
          WHERE r.topic = lake.topic AND r."partition" = lake."partition" AND r."offset" = lake."offset"
            AND r.kafka_us = epoch_us(lake.kafka_timestamp)
      )
      AND NOT EXISTS (SELECT 1 FROM pruned WHERE pruned.invoice = lake.invoice)
)
SELECT due.invoice, invoice_date, lines, topic, due."partition", due."offset", kafka_timestamp,
       CASE WHEN NOT coalesce(is_erased, false) THEN customer_id END AS customer_id,
       CASE WHEN NOT coalesce(is_erased, false) THEN content_sha256 ELSE repeat('0', 64) END AS content_sha256,
       row_number() OVER (
           PARTITION BY due.invoice
           ORDER BY applied.invoice IS NULL, kafka_timestamp, due."partition", due."offset"
       ) AS place
FROM due
LEFT JOIN applied ON applied.invoice = due.invoice AND applied."partition" = due."partition"
    AND applied."offset" = due."offset" AND applied.kafka_us = epoch_us(due.kafka_timestamp)
