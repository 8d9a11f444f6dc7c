SELECT antecedent_names, consequent_names, support, confidence, lift
FROM mart.market_basket_analysis
ORDER BY id
LIMIT %(n)s
