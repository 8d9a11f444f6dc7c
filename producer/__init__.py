"""Put invoices on the topic: generate a shop, replay CSV, live traffic."""
