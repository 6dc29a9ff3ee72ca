"""The gym API as other libraries want it. Each module here imports its library, so whoever wants one imports that module by name."""
