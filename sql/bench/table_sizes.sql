-- One row a table of the mart, and one of PostgreSQL's catalogs: bytes with indexes and TOAST, live and dead rows as
-- the statistics know them.
SELECT relname::text AS "table", pg_total_relation_size(relid) AS bytes, n_live_tup AS live, n_dead_tup AS dead
FROM pg_stat_user_tables
WHERE schemaname = 'mart'
UNION ALL
SELECT 'pg_catalog', sum(pg_total_relation_size(relid)), sum(n_live_tup), sum(n_dead_tup)
FROM pg_stat_sys_tables
WHERE schemaname = 'pg_catalog'
ORDER BY "table"
