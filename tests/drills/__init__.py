"""Fault drills on the running stack: each does its harm, mends it, and returns what every hop counted."""
