"""Deciders."""
