"""Configuration data."""
