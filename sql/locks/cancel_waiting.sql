-- Cancel a session's statement if it waits for a lock just now; a row if so.
SELECT pg_cancel_backend(w.pid)
FROM pg_locks w
JOIN pg_stat_activity a ON a.pid = w.pid
WHERE NOT w.granted
  AND a.datname = current_database()
  AND CASE WHEN %(pid)s::integer IS NULL
           THEN a.application_name = %(application)s AND a.usename = current_user ELSE a.pid = %(pid)s END
