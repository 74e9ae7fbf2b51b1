"""The machinery below the application: it knows nothing of what stands above it. What it offers: docs/engine.md."""
