SELECT invoices, last_batch_at, since_batch_ms, newest_invoice_date, time_zone,
       writer_topic, writer_epoch, writer_application, writer_started_at, writer_connected
FROM mart.stream_status
