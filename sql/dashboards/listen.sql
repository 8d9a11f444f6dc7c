LISTEN mart_batch
