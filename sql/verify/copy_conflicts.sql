COPY (
    SELECT topic, "partition", "offset" FROM mart.rejected_invoice WHERE reason = 'conflicting_duplicate'
) TO STDOUT (FORMAT csv, HEADER)
