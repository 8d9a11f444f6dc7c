-- Customers of these digests whom the mart still names.
SELECT customer_id
FROM (
    SELECT customer_id FROM mart.invoice WHERE customer_id IS NOT NULL
    UNION
    SELECT customer_id FROM mart.customer
    UNION
    SELECT customer_id FROM mart.customer_carried
    UNION
    SELECT customer_id FROM mart.segment_change
) named
CROSS JOIN mart.erasure_salt
WHERE encode(sha256(convert_to(encode(salt, 'hex') || customer_id, 'UTF8')), 'hex') = ANY(%(digests)s)
ORDER BY customer_id
