-- Before lock_scores, as apply does: no batch is between its look at the erasure list and its commit.
SELECT FROM mart.stream_writer ORDER BY topic FOR UPDATE
