"""HTTP servers of the twin, one interface each."""
