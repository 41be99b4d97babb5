"""`otelog demo`: a shop, its customers and a receiver, and the reconciliation at the end."""
