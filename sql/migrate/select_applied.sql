SELECT name, checksum, applied_at FROM public.migration WHERE number = %(number)s
