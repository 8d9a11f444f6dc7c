-- Conditions in Spark's SQL, combined by sql.line_condition.

-- name: product_line
{line}.price > 0
AND trim({line}.description) <> ''
AND {line}.stock_code RLIKE '[0-9]'
AND upper(trim({line}.stock_code)) NOT IN ({admin_codes})

-- name: counting_line
{line}.quantity > 0
AND NOT startswith({invoice}, 'C')
AND {product_line}
