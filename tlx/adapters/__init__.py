"""Parameters trained in addition to a frozen backbone, stored at `adapters/<name>`."""
