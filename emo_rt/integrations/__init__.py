"""A live session in the frameworks of voice agents. Each module needs the extra of its name, and imports it."""
