SELECT count(*)::int FROM mart.invoice
