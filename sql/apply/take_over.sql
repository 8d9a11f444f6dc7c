INSERT INTO mart.stream_writer AS w (topic, epoch, application)
VALUES (%(topic)s, 1, %(application)s)
ON CONFLICT (topic) DO UPDATE
SET epoch = w.epoch + 1, application = excluded.application, started_at = now()
RETURNING epoch
