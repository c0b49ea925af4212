"""Root of the test tree. The plugin `harness.pytest_plugin` is loaded by its entry point when the project is installed."""
