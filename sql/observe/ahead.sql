SELECT coalesce((SELECT invoices_ahead FROM mart.as_of), 0) AS invoices
