-- One run publishes or rolls back at a time; readers are not held up. The number is this lock's alone.
SELECT pg_advisory_xact_lock(7130902001)
