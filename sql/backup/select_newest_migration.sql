SELECT max(number), (SELECT count(*) FROM mart.invoice) FROM public.migration
