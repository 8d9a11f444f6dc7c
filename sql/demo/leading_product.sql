-- The product that leads the highest lift of a rule with one antecedent, else of any rule.
SELECT antecedent_codes[1], antecedent_names[1]
FROM mart.market_basket_analysis
ORDER BY cardinality(antecedent_codes) > 1, id
LIMIT 1
