-- Of lines with columns price, description, stock_code: whether a line is of a product, not of a charge.
price > 0
AND trim(description, ' ') <> ''
AND regexp_matches(stock_code, '[0-9]')
AND NOT list_contains($admin_codes, upper(trim(stock_code, ' ')))
