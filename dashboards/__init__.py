"""Dashboards: one question per card, for the live page and for Metabase alike."""
