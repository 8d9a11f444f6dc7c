SELECT max(number) FROM public.migration
