SELECT to_regnamespace('mart') IS NULL AND to_regclass('public.migration') IS NULL
