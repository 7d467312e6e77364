"""What the HTTP service costs: throughput against peers, behaviour under overload, and the start without torch."""
