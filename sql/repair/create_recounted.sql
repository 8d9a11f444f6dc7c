-- One row a customer, by apply/recounted_customers from the staged invoices.
CREATE TEMPORARY TABLE recounted_customer ON COMMIT DROP AS
{customers};
CREATE UNIQUE INDEX ON recounted_customer (customer_id);
ANALYZE recounted_customer
