"""Dashboards: one question a card, for the live page and for Metabase alike."""
