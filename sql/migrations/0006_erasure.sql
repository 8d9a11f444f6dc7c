-- What an erasure leaves of a customer, said where it stands.

COMMENT ON COLUMN mart.invoice.customer_id IS 'Customer; null where the store did not know, and where the customer was erased.';
COMMENT ON COLUMN mart.invoice.content_sha256 IS
    'Digest of the content; the same number with another digest is a conflict. 32 zero bytes where the customer was '
    'erased: the digest was of the customer''s id, too, and could be tried out.';
COMMENT ON COLUMN mart.rejected_invoice.raw IS
    'The record''s value, byte for byte; null where it had none, and where a customer who is in it was erased.';
COMMENT ON COLUMN mart.erased_customer.customer_sha256 IS
    'SHA-256 of the salt, as hexadecimal text, and the customer''s id, in UTF-8.';
COMMENT ON TABLE mart.segment_flow_total IS
    'One row a day and pair of segments: how many moves there were, also those that mart.segment_change no longer holds '
    '(of erased customers).';
COMMENT ON COLUMN mart.segment_flow_total.moves IS 'Moves; a customer who moved twice counts twice. Never reduced.';
