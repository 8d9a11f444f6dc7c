INSERT INTO mart.erased_customer (customer_sha256)
SELECT decode(unnest(%(digests)s::text[]), 'hex')
ON CONFLICT (customer_sha256) DO NOTHING
