"""Pure folds: events to tables."""
