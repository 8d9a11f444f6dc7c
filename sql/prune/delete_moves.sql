DELETE FROM mart.segment_change WHERE event_time < %(moves)s::date
