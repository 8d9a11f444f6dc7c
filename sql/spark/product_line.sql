{line}.price > 0
AND trim({line}.description) <> ''
AND {line}.stock_code RLIKE '[0-9]'
AND upper(trim({line}.stock_code)) NOT IN ({admin_codes})
