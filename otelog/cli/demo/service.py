"""What the demo's application is called."""

SERVICE = "otelog-shop"
