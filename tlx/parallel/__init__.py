"""The devices and processes a run is spread over."""
