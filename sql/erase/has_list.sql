SELECT to_regclass('mart.erased_customer') IS NOT NULL
