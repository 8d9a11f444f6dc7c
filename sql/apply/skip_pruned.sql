-- A number that was pruned was counted once already. One look by the key for each record, and none while nothing was
-- pruned: a join would be planned for an emptier mart.
DELETE FROM staged_invoice
WHERE EXISTS (SELECT FROM mart.pruned_invoice)
  AND (SELECT true FROM mart.pruned_invoice p WHERE p.invoice = staged_invoice.invoice)
