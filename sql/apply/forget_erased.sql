-- Staged invoices of customers on the erasure list lose customer and digest; costs nothing while the list is empty.
UPDATE staged_invoice
SET customer_id = NULL, content_sha256 = decode(repeat('00', 32), 'hex')
WHERE EXISTS (SELECT FROM mart.erased_customer)
  AND sha256(convert_to((SELECT encode(salt, 'hex') FROM mart.erasure_salt) || customer_id, 'UTF8'))
      IN (SELECT customer_sha256 FROM mart.erased_customer)
