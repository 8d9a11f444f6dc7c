-- Migrate: each file of sql/migrations/ in one transaction with its row of the ledger; then the tables that conf/
-- fills.

-- name: lock
-- Concurrent migrations take turns.
SELECT pg_advisory_xact_lock(hashtext('retail-mart migration'))

-- name: create_ledger
-- With the checksum of each file as applied: a changed one is refused.
CREATE TABLE IF NOT EXISTS public.migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: select_newest
SELECT max(number) FROM public.migration

-- name: select_applied
SELECT name, checksum, applied_at FROM public.migration WHERE number = %(number)s

-- name: record
INSERT INTO public.migration (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s)

-- name: fill_reject_reason
-- From the code's own list; a row that is already right is not written.
INSERT INTO mart.reject_reason (reason, meaning) VALUES %s
ON CONFLICT (reason) DO UPDATE SET meaning = excluded.meaning
WHERE reject_reason.meaning <> excluded.meaning

-- name: fill_segment_score
-- From conf/; a row that is already right is not written.
INSERT INTO mart.segment_score (r, f, m, segment) VALUES %s
ON CONFLICT (r, f, m) DO UPDATE SET segment = excluded.segment
WHERE segment_score.segment <> excluded.segment
