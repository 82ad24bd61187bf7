"""What moves the parameters: groups, schedules. Updates go through optax.multi_transform."""
