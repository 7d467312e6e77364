"""The model that is served: where it is, how it is loaded, and how another takes its place."""
