SELECT antecedent, consequent, support, confidence, lift FROM peer.overwritten_rule
