SELECT coalesce(sum(records), 0)::int, coalesce(sum(invoices), 0)::int, coalesce(sum(duplicates), 0)::int,
       coalesce(sum(rejected), 0)::int
FROM mart.batch
