INSERT INTO mart.batch (
    topic, writer_epoch, started_at, records, invoices, duplicates, rejected,
    oldest_kafka_timestamp, newest_kafka_timestamp, purchased, returned
)
SELECT %(topic)s, %(epoch)s, %(started_at)s, %(records)s, %(invoices)s, %(duplicates)s, %(rejected)s,
       %(oldest)s, %(newest)s, coalesce(sum(purchased), 0), coalesce(sum(returned), 0)
FROM fresh_invoice
RETURNING id, (SELECT count(*) FROM fresh_invoice JOIN mart.shop ON invoice_date > clock_limit)
