"""The worlds that can be acted on."""
