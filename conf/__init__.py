"""Settings, the event's schema and the business parameters. The only package that every service may import."""
