SELECT metric, score, value, rank, customers, tile_begins, tile_ends, places_to_next, next_value, more_to_next
FROM mart.explain_scores(%(customer_id)s)
