-- title: Bought together
-- chart: table
-- description: Association rules of the current run, highest lift first: customers who buy the one side also take the other.
-- refresh: 60 s
-- columns: who_buys text, also_takes text, lift double precision, confidence double precision, support double precision
-- unit: confidence = percent, support = percent
SELECT array_to_string(antecedent_names, ' + ') AS who_buys, array_to_string(consequent_names, ' + ') AS also_takes,
       lift, confidence, support
FROM mart.market_basket_analysis
ORDER BY id
LIMIT 10
