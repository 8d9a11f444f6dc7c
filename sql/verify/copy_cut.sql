COPY (
    SELECT 'tile ' || boundary AS tile, customers, r_value, r_customer_id, f_value, f_customer_id, m_value, m_customer_id
    FROM mart.quintile_cut
) TO STDOUT (FORMAT csv, HEADER)
