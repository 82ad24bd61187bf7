"""From a ConfigDict to plain objects. Below this room no config is known."""
