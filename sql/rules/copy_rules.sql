COPY mart.association_rule (
    run_id, id, antecedent_codes, antecedent_names, consequent_code, consequent_name, lead_code,
    together_count, antecedent_count, consequent_count, support, confidence, lift, leverage, conviction, zhang
) FROM STDIN WITH (FORMAT csv, NULL '', FORCE_NOT_NULL (consequent_code, consequent_name, lead_code))
