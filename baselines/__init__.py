"""Models that learn from run directories alone, and their scores: what a dataset of this gym is good for, and how that is judged."""
