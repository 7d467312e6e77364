"""Which requests are taken, when each gets the device, and how long every step took."""
