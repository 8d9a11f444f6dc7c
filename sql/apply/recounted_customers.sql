-- One row a customer, from the invoices of a table and what pruned ones came to: what mart.customer must be, but for the
-- scores. A customer of whom only returns are known has frequency 0, and a row only where returns count (`net`), as apply
-- writes it, or where it is there already from when they did.
SELECT customer_id,
       max(last_purchase) AS last_purchase,
       sum(frequency)::bigint AS frequency,
       sum(purchased) + CASE WHEN %(returns_policy)s = 'net' THEN sum(returned) ELSE 0 END AS monetary
FROM (
    SELECT customer_id, CASE WHEN counting_lines > 0 THEN invoice_date END AS last_purchase,
           (counting_lines > 0)::int AS frequency, purchased, returned
    FROM {invoices}
    WHERE customer_id IS NOT NULL AND (counting_lines > 0 OR returned < 0)
    UNION ALL
    SELECT customer_id, last_purchase, frequency, purchased, returned FROM mart.customer_carried
) known
GROUP BY customer_id
HAVING sum(frequency) > 0
    OR %(returns_policy)s = 'net'
    OR customer_id IN (SELECT customer_id FROM mart.customer)
