"""Who may ask for what: keys, origins of web pages, host names, and how often."""
