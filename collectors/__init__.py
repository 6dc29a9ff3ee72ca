"""The senses: stand to events."""
