-- Products that a basket can begin with: those of the current rules, the ones in most baskets first.
SELECT antecedent_codes[1] AS stock_code, antecedent_names[1] AS name
FROM mart.market_basket_analysis
WHERE cardinality(antecedent_codes) = 1
GROUP BY 1, 2
ORDER BY max(antecedent_count) DESC, 1
LIMIT 500
