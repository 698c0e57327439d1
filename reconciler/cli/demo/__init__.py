"""The demonstration: its processes (`stage`), what it shows (`scenes`), and what is left to try (`playground`)."""
