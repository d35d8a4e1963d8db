"""What comes over the main screen: one question or view a file."""
