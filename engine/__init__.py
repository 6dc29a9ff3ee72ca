"""The spine: events, the log, time, the episode, the gym API and the command line. No physics, no folding, no outside system."""
