"""What was said, and what came of it: the command language, sessions on disk, replay, batch."""
