"""The devices a run is spread over."""
