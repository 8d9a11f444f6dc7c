-- Backup and restore: a snapshot that pg_dump and the next offsets share; for a restore, checking that the database is
-- empty, and fencing older jobs.

-- name: is_empty
SELECT to_regnamespace('mart') IS NULL AND to_regclass('public.migration') IS NULL

-- name: export_snapshot
SELECT pg_export_snapshot()

-- name: select_newest_migration
SELECT max(number), (SELECT count(*) FROM mart.invoice) FROM public.migration

-- name: fence_older_jobs
-- Beyond any epoch that jobs may have reached since the backup.
UPDATE mart.stream_writer SET epoch = epoch + 1000, application = 'restore', started_at = now()
