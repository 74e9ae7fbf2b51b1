"""The machinery below the application: it knows nothing of what stands above it."""
