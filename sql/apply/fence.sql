SELECT epoch, application, started_at FROM mart.stream_writer WHERE topic = %(topic)s FOR UPDATE
