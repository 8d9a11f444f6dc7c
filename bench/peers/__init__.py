"""The same work in other ways, each a program of its own: `python -m bench.peers.<way>` until it is stopped.

They keep frequency, money and last purchase of each customer in `peer.customer` (bench/peer_tables in sql/).
"""
