-- As a batch does (mart.count_batch): open pages ask anew.
SELECT pg_notify('mart_batch', '')
