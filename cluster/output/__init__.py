"""What a user sees and keeps: terminal, progress, files."""
