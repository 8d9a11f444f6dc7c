DELETE FROM mart.invoice i WHERE NOT EXISTS (SELECT FROM staged_invoice s WHERE s.invoice = i.invoice)
