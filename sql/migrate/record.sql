INSERT INTO public.migration (number, name, checksum) VALUES (%(number)s, %(name)s, %(checksum)s)
