{line}.quantity > 0
AND NOT startswith({invoice}, 'C')
AND {product_line}
