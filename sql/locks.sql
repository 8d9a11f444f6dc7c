-- Who waits for whom in PostgreSQL, and the one thing to do about it.

-- name: blockers
-- One row per session that blocks another one: the session `pid`, or if that is null, the one of `application`. Since
-- when and for what it waits, and who makes it wait. Without pg_read_all_stats a role sees null for the statements and
-- times of other roles' sessions. Of a statement only the words before its first value are taken, so that it reveals no
-- customer.
WITH waiting AS MATERIALIZED (
    SELECT w.pid, w.waitstart, w.mode, w.relation::regclass::text AS relation
    FROM pg_locks w
    JOIN pg_stat_activity a ON a.pid = w.pid
    WHERE NOT w.granted
      AND a.datname = current_database()
      AND CASE WHEN %(pid)s::integer IS NULL THEN a.application_name = %(application)s ELSE a.pid = %(pid)s END
)
SELECT DISTINCT
       waiting.waitstart AS since,
       extract(epoch FROM clock_timestamp() - waiting.waitstart)::float8 AS seconds,
       waiting.relation,
       waiting.mode,
       blocker.pid,
       session.usename AS role,
       session.application_name AS application,
       session.xact_start AS in_transaction_since,
       nullif(trim(substring(session.query FROM '^\s*((?:[A-Za-z_.*]+\s*){1,4})')), '') AS statement
FROM waiting
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker (pid)
LEFT JOIN pg_stat_activity session ON session.pid = blocker.pid
WHERE waiting.waitstart IS NOT NULL
ORDER BY blocker.pid

-- name: cancel_waiting
-- Cancels a session's statement if it is waiting for a lock right now; a row if so.
SELECT pg_cancel_backend(w.pid)
FROM pg_locks w
JOIN pg_stat_activity a ON a.pid = w.pid
WHERE NOT w.granted
  AND a.datname = current_database()
  AND CASE WHEN %(pid)s::integer IS NULL
           THEN a.application_name = %(application)s AND a.usename = current_user ELSE a.pid = %(pid)s END
