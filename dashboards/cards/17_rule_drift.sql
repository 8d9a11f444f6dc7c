-- title: Rules that changed since last night
-- chart: table
-- description: Rules that differ between the current run and the previous one, largest change of lift first.
-- refresh: 60 s
-- columns: change text, who_buys text, also_takes text, lift_before double precision, lift double precision
SELECT change, array_to_string(antecedent_names, ' + ') AS who_buys,
       array_to_string(consequent_names, ' + ') AS also_takes, lift_before, lift
FROM mart.rule_drift
ORDER BY abs(coalesce(lift, 1) - coalesce(lift_before, 1)) DESC, antecedent_names, consequent_names
LIMIT 10
