SELECT frequency, purchased, returned, last_purchase FROM mart.explain_carried(%(customer)s)
