SELECT encode(salt, 'hex'), ARRAY(SELECT encode(customer_sha256, 'hex') FROM mart.erased_customer ORDER BY 1)
FROM mart.erasure_salt
