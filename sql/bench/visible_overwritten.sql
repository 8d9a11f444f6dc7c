SELECT coalesce(sum(frequency), 0) FROM peer.overwritten
