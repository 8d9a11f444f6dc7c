"""The same work done in other ways, each as its own program: `python -m bench.peers.<way>` until it is stopped.

They keep frequency, monetary value and last purchase of each customer in `peer.customer` (bench/peer_tables in sql/).
"""
