"""What the app is made of: one widget a file."""
