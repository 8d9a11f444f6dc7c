SELECT coalesce(sum(records), 0)::bigint AS records FROM mart.quarantine_count WHERE reason = %(reason)s
