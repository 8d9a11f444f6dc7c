-- Past any epoch that jobs may have reached since the backup.
UPDATE mart.stream_writer SET epoch = epoch + 1000, application = 'restore', started_at = now()
