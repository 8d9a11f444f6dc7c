-- A batch that PostgreSQL refuses: the bad records are found by trying parts of the batch, each in a savepoint.

-- name: begin_trial
SAVEPOINT trial

-- name: undo_trial
-- The savepoint itself survives a rollback to it, so it is released too.
ROLLBACK TO SAVEPOINT trial;
RELEASE SAVEPOINT trial

-- name: keep_trial
RELEASE SAVEPOINT trial

-- name: empty_stage
TRUNCATE staged_invoice, fresh_invoice, due_customer
