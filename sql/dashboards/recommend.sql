SELECT stock_code, name, because, confidence, lift, support
FROM mart.recommend(%(stock_codes)s, %(n)s)
