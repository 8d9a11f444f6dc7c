-- One row a key and column in which the mart and the lake differ, as text. A key that one of them lacks is one row.
CREATE OR REPLACE TABLE {table}_difference AS
SELECT coalesce(m.{key}, l.{key}) AS key, d.difference, d.mart, d.lake
FROM mart_{table} m
FULL JOIN {lake} l USING ({key})
CROSS JOIN LATERAL (
    SELECT unnest(
        CASE WHEN m.{key} IS NULL THEN [{{'difference': 'missing in the mart', 'mart': NULL, 'lake': l.{key}}}]
             WHEN l.{key} IS NULL THEN [{{'difference': 'not in the lake', 'mart': m.{key}, 'lake': NULL}}]
             ELSE [{columns}] END,
        recursive := true
    )
) d
WHERE d.mart IS DISTINCT FROM d.lake
