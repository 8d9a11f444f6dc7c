SELECT pg_advisory_xact_lock(hashtext('retail-mart migration'))
