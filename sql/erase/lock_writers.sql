-- Before lock_scores, as apply does: no batch is between its looks at what was erased or pruned and its commit, and none
-- begins, of a topic that is new just now neither.
LOCK TABLE mart.stream_writer IN EXCLUSIVE MODE
