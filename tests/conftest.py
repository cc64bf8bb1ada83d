"""Every test may ask for a real lab: see westward.testing."""

pytest_plugins = ["westward.testing"]
