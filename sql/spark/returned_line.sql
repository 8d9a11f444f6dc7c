{line}.quantity < 0
AND {product_line}
