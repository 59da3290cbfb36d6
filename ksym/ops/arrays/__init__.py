"""Making arrays, their shapes, and moving, taking and joining their elements."""
