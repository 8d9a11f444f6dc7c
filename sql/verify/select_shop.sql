SELECT returns_policy, clock_limit FROM mart.shop
