"""The document of the interface, and its page."""
