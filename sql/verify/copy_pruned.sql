COPY (SELECT invoice FROM mart.pruned_invoice) TO STDOUT (FORMAT csv, HEADER)
