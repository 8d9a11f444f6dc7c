SELECT returns_policy FROM mart.shop
