SELECT antecedent_codes, consequent_codes, support, confidence, lift FROM mart.market_basket_analysis
