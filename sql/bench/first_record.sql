SELECT min(kafka_timestamp) FROM mart.invoice WHERE kafka_timestamp >= %(start)s - interval '1 second'
